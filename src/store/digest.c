/* digest: the store's only file but dedup.c that knows xxHash; see digest.h. */
#include "store/digest.h"

#include <string.h>

#define XXH_INLINE_ALL
#define XXH_STATIC_LINKING_ONLY /* XXH3_state_t, which lies in memory of ours */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wcast-align"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wswitch-enum"
#include <xxhash.h>
#pragma GCC diagnostic pop

#include "core/mem.h"

_Static_assert(sizeof(XXH128_canonical_t) == DIGEST_BYTES, "a digest is 128 bits");

struct digest {
    XXH3_state_t state;
};

struct digest *digest_new(void)
{
    struct digest *digest = mem_alloc(sizeof *digest);
    ASSERT((uintptr_t)digest % _Alignof(struct digest) == 0); /* 64; mem_alloc gives more */
    digest_reset(digest);
    return digest;
}

void digest_free(struct digest *digest)
{
    mem_free(digest);
}

void digest_reset(struct digest *digest)
{
    XXH_errorcode result = XXH3_128bits_reset(&digest->state);
    ASSERT(result == XXH_OK); /* only a NULL state is an error */
}

void digest_add(struct digest *digest, struct slice bytes)
{
    if (bytes.bytes == 0) {
        return;
    }
    XXH_errorcode result = XXH3_128bits_update(&digest->state, bytes.data, bytes.bytes);
    ASSERT(result == XXH_OK); /* only a NULL input is an error */
}

static void digest_put(uint8_t *to, XXH128_hash_t hash)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    memcpy(to, canonical.digest, DIGEST_BYTES);
}

void digest_get(const struct digest *digest, uint8_t to[DIGEST_BYTES])
{
    digest_put(to, XXH3_128bits_digest(&digest->state));
}

void digest_once(struct slice bytes, uint8_t to[DIGEST_BYTES])
{
    digest_put(to, XXH3_128bits(bytes.data, bytes.bytes));
}

uint64_t digest_64(struct slice bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes.data, bytes.bytes, seed);
}
