/**
 * What `JSON.parse` keeps quiet about: a member given twice, of which it takes the last, and where in a text for people,
 * that is in which line, it found a fault.
 *
 * Two readers of such a text can believe two things, so a file that decides about trust must not hold one,
 * not even with equal values. Stands on RFC 8259, section 4.
 */

/** Returns the path of each member that repeats a name of its object in `text`, which must be valid JSON. */
export function repeatedMembers(text: string): string[] {
  const repeated: string[] = [];
  const open: { names: Set<string>; at: string | number }[] = [];
  for (const [token, name] of text.matchAll(
    /("[^"\\]*(?:\\.[^"\\]*)*")\s*:|"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],]/g,
  )) {
    const innermost = open.at(-1);
    if (token === '{') open.push({ names: new Set(), at: '' });
    else if (token === '[') open.push({ names: new Set(), at: 0 });
    else if (token === '}' || token === ']') open.pop();
    else if (innermost === undefined) continue;
    else if (token === ',' && typeof innermost.at === 'number') innermost.at++;
    else if (name !== undefined) {
      innermost.at = String(JSON.parse(name)); // "a" and "\u0061" are one name
      if (innermost.names.has(innermost.at)) repeated.push(printJsonPath(open.map(({ at }) => at)));
      innermost.names.add(innermost.at);
    }
  }
  return repeated;
}

/** Returns a path into a JSON text as a person would write it: `agents[1].keys[0].record`. */
export function printJsonPath(path: readonly PropertyKey[]): string {
  return path
    .map((step) => {
      if (typeof step === 'number') return `[${step}]`;
      const name = String(step);
      return /^[A-Za-z_$][A-Za-z0-9_$]*$/.test(name) ? `.${name}` : `[${JSON.stringify(name)}]`;
    })
    .join('')
    .replace(/^\./, '');
}

/** Returns where `text` stops being JSON, and why, as in `line 3, column 1: Unexpected token '}'`; it must not be valid. */
export function describeJsonFault(text: string): string {
  const fault = faultIn(text) ?? '';
  const stated = /at position (\d+)/.exec(fault)?.[1];
  const before = text.slice(0, stated === undefined ? placeOfToken(text) : Number(stated)).split('\n');
  const why = fault.replace(/(?:, (?:\.\.\.)?"| in JSON| after JSON at position| at position).*$/s, '');
  return `line ${before.length}, column ${(before.at(-1) ?? '').length + 1}: ${why}`;
}

/** A token that nothing can follow is named without its place: it ends the shortest beginning with the same fault. */
function placeOfToken(text: string): number {
  let [without, upTo] = [0, text.length];
  while (without < upTo) {
    const middle = (without + upTo) >> 1;
    if (faultIn(text.slice(0, middle))?.startsWith('Unexpected token')) upTo = middle;
    else without = middle + 1;
  }
  return /^Unexpected token/.test(faultIn(text.slice(0, upTo)) ?? '') ? upTo - 1 : upTo;
}

function faultIn(text: string): string | undefined {
  try {
    JSON.parse(text);
    return undefined;
  } catch (thrown) {
    return thrown instanceof Error ? thrown.message : String(thrown);
  }
}
