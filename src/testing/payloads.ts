/**
 * Rules for payloads that may differ from the recorded ones: at some places, or as long as they fit a schema.
 *
 * A rule returns the differences that count; without one, all do. A payload that is the same down to its bytes is never
 * asked about.
 */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { SwarmError } from '../base/errors.ts';
import type { PayloadRule } from '../replay/compare.ts';
import { type Change, changesBetween } from '../replay/divergence.ts';

/**
 * Returns a rule by which what stands at `pointers`, and below them, does not count. They are JSON pointers (RFC 6901),
 * in which `*` is any member or element: `/at`, `/items/*\/id`. Throws `USAGE` for what is no pointer.
 */
export function ignoring(...pointers: readonly string[]): PayloadRule {
  const ignored = pointers.map(parsePointer);
  return (expected, actual) =>
    changesBetween(expected, actual).filter(({ path }) => {
      const parts = parsePointer(path);
      return !ignored.some((pattern) =>
        pattern.every((part, at) => at < parts.length && fits(part, parts[at])),
      );
    });
}

function fits(pattern: string, part: string | undefined): boolean {
  return pattern === '*' || pattern === part;
}

/** Returns the parts of a JSON pointer; none for the whole. */
function parsePointer(pointer: string): readonly string[] {
  const [before, ...parts] = pointer.split('/');
  if (before !== '' || /~(?![01])/.test(pointer)) {
    throw new SwarmError(
      'USAGE',
      `not a JSON pointer: ${JSON.stringify(pointer)} (as in /at or /items/*/id; ~1 for / and ~0 for ~ in a name)`,
    );
  }
  return parts.map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/**
 * Returns a rule by which any payload will do that fits `schema`: one of zod, valibot, arktype, or whatever else is a
 * Standard Schema. The rule throws `USAGE` where the schema answers with a promise.
 */
export function matching(schema: StandardSchemaV1): PayloadRule {
  return (expected, actual) => {
    const result = schema['~standard'].validate(actual);
    if (result instanceof Promise) {
      throw new SwarmError(
        'USAGE',
        `a schema of ${schema['~standard'].vendor} answers with a promise; a rule for payloads needs one that answers at once`,
      );
    }
    return (result.issues ?? []).map(({ message, path = [] }) => {
      const keys = path.map((part) => (typeof part === 'object' ? part.key : part));
      return changeAt(keys, { expected, actual, why: message });
    });
  };
}

interface Sides {
  readonly expected: unknown;
  readonly actual: unknown;
  readonly why: string;
}

function changeAt(keys: readonly PropertyKey[], { expected, actual, why }: Sides): Change {
  const names = keys.map((key) => String(key).replaceAll('~', '~0').replaceAll('/', '~1'));
  const [was, is] = [valueAt(expected, keys), valueAt(actual, keys)];
  return {
    path: names.map((name) => `/${name}`).join(''),
    ...(was !== undefined && { expected: was }),
    ...(is !== undefined && { actual: is }),
    why,
  };
}

function valueAt(value: unknown, keys: readonly PropertyKey[]): unknown {
  return keys.reduce<unknown>(
    (inner, key) =>
      typeof inner === 'object' && inner !== null && Object.hasOwn(inner, key)
        ? (inner as Record<PropertyKey, unknown>)[key]
        : undefined,
    value,
  );
}

/** Returns a rule by which a difference counts that counts by any of `rules`: so a schema can hold for what is ignored. */
export function allOf(...rules: readonly PayloadRule[]): PayloadRule {
  return (expected, actual) => rules.flatMap((rule) => rule(expected, actual));
}
