/** Facet weights, as the address says them: `method:0.8,result:0.2`. No text: nobody set any. */

/** Weights by facet, or null for none. What is no number becomes NaN, which the service refuses with a reason. */
export function weightsOf(text) {
  if (!text) return null;
  return Object.fromEntries(text.split(",").map((part) => {
    const at = part.lastIndexOf(":");
    return at < 0 ? [part, NaN] : [decoded(part.slice(0, at)), Number.parseFloat(part.slice(at + 1))];
  }));
}

/** The reverse; weights of zero are left out. */
export const textOf = (weights) => Object.entries(weights).filter(([, weight]) => weight > 0)
  .map(([name, weight]) => `${encoded(name)}:${Number(weight.toFixed(2))}`).join(",");

const encoded = (name) => name.replace(/[%:,]/g, encodeURIComponent);

function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
