// Bytes as the page carries them: base64, and byte planes that were deflated. Not for: what they mean.

export function fromBase64(text) {
  const binary = atob(text.trim());
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

export const floatsOf = (text) => new Float32Array(fromBase64(text).buffer);

// Undoes page.deflated: inflates, then puts the even bytes between the odd ones again.
export async function unpack(text) {
  if (!text.trim()) return new Uint8Array(0);
  const stream = new Blob([fromBase64(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const half = planes.length / 2;
  const bytes = new Uint8Array(planes.length);
  for (let i = 0; i < half; i++) {
    bytes[2 * i] = planes[i];
    bytes[2 * i + 1] = planes[half + i];
  }
  return bytes;
}

// A few numbers as text for a link: float32, base64 without the letters that a link cannot have.
export function toLink(values) {
  const bytes = new Uint8Array(Float32Array.from(values).buffer);
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

export function fromLink(text, length) {
  try {
    const values = floatsOf(text.replaceAll("-", "+").replaceAll("_", "/"));
    return values.length === length && values.every(Number.isFinite) ? values : null;
  } catch {
    return null;
  }
}
