/** A binary heap: the least of what it holds comes out first. */
export class Heap<T> {
  readonly #isLess: (one: T, other: T) => boolean;
  readonly #items: T[] = [];

  constructor(isLess: (one: T, other: T) => boolean) {
    this.#isLess = isLess;
  }

  get size(): number {
    return this.#items.length;
  }

  /** Returns the least item and leaves it there. */
  peek(): T | undefined {
    return this.#items[0];
  }

  push(item: T): void {
    let at = this.#items.length;
    while (at > 0) {
      const above = (at - 1) >> 1;
      const other = this.#items[above] as T;
      if (!this.#isLess(item, other)) break;
      this.#items[at] = other;
      at = above;
    }
    this.#items[at] = item;
  }

  /** Takes out the least item. */
  pop(): T | undefined {
    const least = this.#items[0];
    const last = this.#items.pop();
    if (this.#items.length > 0) this.#sink(last as T);
    return least;
  }

  /** Puts the first item where it belongs, after it became larger. */
  settle(): void {
    if (this.#items.length > 1) this.#sink(this.#items[0] as T);
  }

  #sink(item: T): void {
    const { length } = this.#items;
    let at = 0;
    for (let below = 1; below < length; below = 2 * at + 1) {
      const right = below + 1;
      if (right < length && this.#isLess(this.#items[right] as T, this.#items[below] as T)) below = right;
      const other = this.#items[below] as T;
      if (!this.#isLess(other, item)) break;
      this.#items[at] = other;
      at = below;
    }
    this.#items[at] = item;
  }
}
