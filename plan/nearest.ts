/**
 * The candidate that is closest to what was typed, for "did you mean". Undefined when nothing is close:
 * more than a third of the letters would have to change.
 */
export function nearestName(typed: string, candidates: readonly string[]): string | undefined {
  const scored = candidates.map((name) => ({ name, distance: editDistance(simplify(typed), simplify(name)) }));
  scored.sort((left, right) => left.distance - right.distance);
  const best = scored[0];
  return best !== undefined && best.distance <= Math.max(1, Math.ceil(typed.length / 3)) ? best.name : undefined;
}

/** `tensor_parallel`, `tensor-parallel` and `TensorParallel` are one name to a person. */
function simplify(name: string): string {
  return name.toLowerCase().replaceAll(/[-_ ]/g, "");
}

/** Levenshtein's distance: letters to insert, delete or replace. */
function editDistance(left: string, right: string): number {
  let previous = Array.from({ length: right.length + 1 }, (_, column) => column);
  for (let row = 1; row <= left.length; row++) {
    const current = [row];
    for (let column = 1; column <= right.length; column++) {
      const replaced = (previous[column - 1] ?? 0) + (left[row - 1] === right[column - 1] ? 0 : 1);
      current.push(Math.min(replaced, (previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[right.length] ?? 0;
}
