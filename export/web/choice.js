// Which encoder of a bundle a device should use: the best that stays within a latency budget.

/** Return the entries of a card that answer searches of whole vectors, the best first. */
export function listUsable(card) {
  const usable = card.encoders.filter(
    (entry) =>
      entry.input === "photo" && entry.form === "float" && entry.dim === card.space.dim,
  );
  const exactness = { fp32: 2, fp16: 1, int8: 0 };
  const nearness = (entry) => entry.alignment?.mean_cosine ?? 0;
  return usable.sort(
    (a, b) =>
      nearness(b) - nearness(a) ||
      b.size - a.size ||
      exactness[b.precision] - exactness[a.precision] ||
      a.bytes - b.bytes,
  );
}

/** Return the entry that is there soonest: the first answer need not wait for a better one. */
export function pickFirst(entries) {
  return entries.reduce((least, entry) => (entry.bytes < least.bytes ? entry : least));
}

/**
 * Return what to use by what was measured, and what to measure next: {use, next}.
 *
 * `measured` maps encoder digests to milliseconds, null for those that failed here. An encoder that
 * was not measured is taken to cost what its pixels cost beside the nearest measured one. `use` is
 * the best within the budget, else the fastest; `next` the best that may fit and is better, or null.
 */
export function choose(entries, measured, budget) {
  const known = entries.filter((entry) => measured[entry.encoder] != null);
  if (!known.length) return { use: null, next: pickFirst(entries) };
  const cost = (entry) => measured[entry.encoder];
  const fast = known.filter((entry) => cost(entry) <= budget);
  const use = fast[0] ?? known.reduce((least, entry) => (cost(entry) < cost(least) ? entry : least));
  const better = entries.slice(0, fast.length ? entries.indexOf(use) : entries.length);
  const next = better.find(
    (entry) => measured[entry.encoder] === undefined && predict(entry, known, cost) <= budget,
  );
  return { use, next: next ?? null };
}

function predict(entry, known, cost) {
  const distance = (other) => Math.abs(Math.log(other.size / entry.size));
  const nearest = known.reduce((least, other) => (distance(other) < distance(least) ? other : least));
  return cost(nearest) * (entry.size / nearest.size) ** 2;
}
