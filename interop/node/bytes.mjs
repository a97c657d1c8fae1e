// What the server and the suites have to agree on, byte by byte (EVENTS.md).

/** FNV-1a, 32 bits. */
export function fnv(bytes) {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** The value of `gift`. */
export function gift(kind, n) {
  const bytes = Buffer.alloc(n);
  for (let i = 0; i < n; i++) bytes[i] = kind === "binary" ? (7 * i + 3) % 256 : 97 + ((7 * i + 3) % 26);
  return kind === "binary" ? bytes : bytes.toString("latin1");
}
