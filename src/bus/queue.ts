/** A first-in, first-out queue whose `shift` does not move the rest, however long it is. */
export class Queue<T extends object> implements Iterable<T> {
  #items: (T | undefined)[] = [];
  #first = 0;

  get size(): number {
    return this.#items.length - this.#first;
  }

  push(item: T): void {
    this.#items.push(item);
  }

  peek(): T | undefined {
    return this.#items[this.#first];
  }

  shift(): T | undefined {
    const item = this.#items[this.#first];
    if (item === undefined) return undefined;
    this.#items[this.#first] = undefined; // not kept alive until the next tidying
    this.#first += 1;
    if (this.#first === this.#items.length || this.#first === 1_024) this.#tidy();
    return item;
  }

  /** Puts `item` in the place of the first one for which `matches` is true; reports whether there was one. */
  replace(matches: (item: T) => boolean, item: T): boolean {
    const index = this.#items.findIndex((other) => other !== undefined && matches(other));
    if (index >= 0) this.#items[index] = item;
    return index >= 0;
  }

  /** Drops every item for which `wanted` is false. */
  keep(wanted: (item: T) => boolean): void {
    this.#items = this.#items.filter((item) => item !== undefined && wanted(item));
    this.#first = 0;
  }

  /** Takes out and returns everything. */
  drain(): readonly T[] {
    const all = [...this];
    this.#items = [];
    this.#first = 0;
    return all;
  }

  *[Symbol.iterator](): Iterator<T> {
    for (const item of this.#items) if (item !== undefined) yield item;
  }

  #tidy(): void {
    this.#items = this.#items.slice(this.#first);
    this.#first = 0;
  }
}
