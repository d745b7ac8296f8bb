/*
 * digest: XXH3, the hash of the store's side files: 128 bits prove that compaction lost nothing,
 * 64 bits key the index's filters. Against accidents, not against enemies. Bytes of a 128-bit
 * digest are XXH's canonical form (big endian), as in receipts.
 *
 * Streaming and one-shot give the same result however the bytes were cut. A struct digest belongs
 * to one thread; digest_once and digest_64 are pure. Nothing here fails.
 */
#ifndef STORE_DIGEST_H
#define STORE_DIGEST_H

#include "core/base.h"

#define DIGEST_BYTES 16u

struct digest;

/* Ready to add to. */
struct digest *digest_new(void);
void digest_free(struct digest *digest);
void digest_reset(struct digest *digest);
void digest_add(struct digest *digest, struct slice bytes);
/* The digest of all that was added; adding may go on. */
void digest_get(const struct digest *digest, uint8_t to[DIGEST_BYTES]);

void digest_once(struct slice bytes, uint8_t to[DIGEST_BYTES]);
uint64_t digest_64(struct slice bytes, uint64_t seed);

#endif
