/*
 * crc32c: the checksum of everything on disk. Pure after start; the way (hardware or table) is
 * chosen once, before main. Cannot fail.
 *
 * Hardware: the crc32 instruction takes 8 bytes with a latency of three cycles but starts one every
 * cycle, so three independent streams run side by side over three neighbouring parts A|B|C of the
 * input. Their registers are joined by
 *
 *     crc(A|B|C) = crc(A) * x^(bits of B and C)  +  crc(B) * x^(bits of C)  +  crc(C)      (mod P)
 *
 * where each multiplication is one carry-less multiply by a constant from a table, and one more
 * crc32 step reduces the sum (Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32
 * Instruction", Intel 2011).
 */
#include "core/crc32c.h"

#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>
#endif

#define CRC32C_POLYNOMIAL 0x82F63B78u /* reflected */

/* --- The scalar twin: eight bytes a step by eight tables ("slicing by 8"). --- */

static uint32_t slices[8][256];

static void slices_init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ ((crc & 1) ? CRC32C_POLYNOMIAL : 0);
        }
        slices[0][i] = crc;
    }
    for (size_t slice = 1; slice < 8; slice++) {
        for (size_t i = 0; i < 256; i++) {
            uint32_t crc = slices[slice - 1][i];
            slices[slice][i] = (crc >> 8) ^ slices[0][crc & 0xFF];
        }
    }
}

static uint64_t load_u64(const uint8_t *p)
{
    uint64_t value;
    memcpy(&value, p, sizeof(value));
    return value;
}

static uint32_t scalar_word(uint32_t crc, uint64_t word)
{
    word ^= crc;
    uint32_t next = 0;
    for (size_t i = 0; i < 8; i++) {
        next ^= slices[7 - i][(word >> (8 * i)) & 0xFF];
    }
    return next;
}

uint32_t crc32c_scalar(uint32_t seed, const void *data, size_t bytes)
{
    const uint8_t *p = data;
    uint32_t crc = ~seed;
    for (; bytes >= 8; bytes -= 8, p += 8) {
        crc = scalar_word(crc, load_u64(p));
    }
    for (; bytes > 0; bytes--, p++) {
        crc = (crc >> 8) ^ slices[0][(crc ^ *p) & 0xFF];
    }
    return ~crc;
}

static uint32_t copy_scalar(uint32_t seed, void *restrict to, const void *restrict from,
                            size_t bytes)
{
    if (bytes != 0) {
        memcpy(to, from, bytes);
    }
    return crc32c_scalar(seed, from, bytes);
}

static uint32_t (*crc_chosen)(uint32_t seed, const void *data, size_t bytes) = crc32c_scalar;
static uint32_t (*copy_chosen)(uint32_t seed, void *restrict to, const void *restrict from,
                               size_t bytes) = copy_scalar;

/* --- Hardware. --- */

#if defined(__x86_64__)

#define HARDWARE        __attribute__((target("sse4.2,pclmul")))
#define HARDWARE_INLINE HARDWARE static inline __attribute__((always_inline))

/* The longest part of a round, in words of 8 bytes. 128: a round is 3 KiB and the table 1 KiB;
 * twice that gains 3 % and half of it costs 3 %. */
#define PART_WORDS_MAX 128u

/* From here on a copy goes past the cache. */
#define STREAMING_BYTES_MIN KIB(32)

/* Below this many words one stream is as fast: at 64 bytes it wins by 1 ns, at 96 bytes three win
 * by 2 ns. */
#define ROUND_WORDS_MIN 12u

/* shift_by_words[n] = x^(64 n - 33) mod P, reflected: multiplying by it and reducing with one crc32
 * step moves a register over n words of zeros. The 33: a carry-less product of reflected numbers
 * sits one bit low, and the step multiplies by x^32. */
static uint32_t shift_by_words[2 * PART_WORDS_MAX + 1];

HARDWARE static void shift_init(void)
{
    shift_by_words[0] = 0; /* never used */
    shift_by_words[1] = 1; /* x^31 */
    for (size_t n = 2; n < ARRAY_COUNT(shift_by_words); n++) {
        shift_by_words[n] = (uint32_t)_mm_crc32_u64(shift_by_words[n - 1], 0);
    }
}

HARDWARE_INLINE __m128i multiply(uint64_t crc, uint32_t constant)
{
    return _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc), _mm_cvtsi32_si128((int)constant),
                                0);
}

HARDWARE_INLINE uint64_t join(uint64_t a, uint64_t b, uint64_t c, size_t part_words)
{
    __m128i sum = _mm_xor_si128(multiply(a, shift_by_words[2 * part_words]),
                                multiply(b, shift_by_words[part_words]));
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(sum)) ^ c;
}

/* One word of one stream; to is NULL, and the store compiled away, where nothing is copied. */
HARDWARE_INLINE uint64_t word_step(uint64_t crc, uint8_t *to, const uint8_t *from,
                                   bool is_streaming)
{
    uint64_t word;
    memcpy(&word, from, sizeof(word));
    if (to != NULL && is_streaming) {
        _mm_stream_si64((long long *)(void *)to, (long long)word);
    } else if (to != NULL) {
        memcpy(to, &word, sizeof(word));
    }
    return _mm_crc32_u64(crc, word);
}

/* A round: three parts of part_words each. */
HARDWARE_INLINE uint64_t round_step(uint64_t crc, uint8_t *restrict to,
                                    const uint8_t *restrict from, size_t part_words,
                                    bool is_streaming)
{
    const size_t part = 8 * part_words;
    uint64_t a = crc;
    uint64_t b = 0;
    uint64_t c = 0;
    for (size_t at = 0; at < part; at += 8) {
        a = word_step(a, to ? to + at : NULL, from + at, is_streaming);
        b = word_step(b, to ? to + part + at : NULL, from + part + at, is_streaming);
        c = word_step(c, to ? to + 2 * part + at : NULL, from + 2 * part + at, is_streaming);
    }
    return join(a, b, c, part_words);
}

/* The last 0 to 7 bytes. */
HARDWARE_INLINE uint64_t tail_step(uint64_t crc, uint8_t *restrict to, const uint8_t *restrict from,
                                   size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (to != NULL) {
            to[i] = from[i];
        }
        crc = _mm_crc32_u8((uint32_t)crc, from[i]);
    }
    return crc;
}

HARDWARE_INLINE uint32_t run(uint32_t seed, uint8_t *restrict to, const uint8_t *restrict from,
                             size_t bytes, bool is_streaming)
{
    if (bytes == 0) { /* Nothing may come as NULL, to which not even 0 may be added. */
        return seed;
    }
    uint64_t crc = (uint32_t)~seed;
    size_t at = 0;
    while (bytes - at >= 8 * ROUND_WORDS_MIN) {
        size_t part_words = u64_min((bytes - at) / 24, PART_WORDS_MAX);
        crc = round_step(crc, to ? to + at : NULL, from + at, part_words, is_streaming);
        at += 24 * part_words;
    }
    for (; bytes - at >= 8; at += 8) {
        crc = word_step(crc, to ? to + at : NULL, from + at, is_streaming);
    }
    crc = tail_step(crc, to ? to + at : NULL, from + at, bytes - at);
    return ~(uint32_t)crc;
}

HARDWARE static uint32_t crc_hardware(uint32_t seed, const void *data, size_t bytes)
{
    return run(seed, NULL, data, bytes, false);
}

HARDWARE static uint32_t copy_hardware(uint32_t seed, void *restrict to, const void *restrict from,
                                       size_t bytes)
{
    /* A large copy goes to a batch that only the device reads next: stores past the cache save
     * reading the old lines of the batch first, and leave the cache to the ring. */
    if (bytes >= STREAMING_BYTES_MIN && ((uintptr_t)to & 7) == 0) {
        uint32_t crc = run(seed, to, from, bytes, true);
        _mm_sfence(); /* such stores are weakly ordered: all of them before whatever follows */
        return crc;
    }
    return run(seed, to, from, bytes, false);
}

static void hardware_choose(void)
{
    __builtin_cpu_init(); /* Constructors may run before libgcc's own. */
    if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul")) {
        shift_init();
        crc_chosen = crc_hardware;
        copy_chosen = copy_hardware;
    }
}

#else

static void hardware_choose(void)
{
}

#endif

/* Before main and before any thread, so that the choice is plain data for everyone. */
__attribute__((constructor)) static void crc32c_choose(void)
{
    slices_init();
    hardware_choose();
}

uint32_t crc32c(uint32_t seed, const void *data, size_t bytes)
{
    return crc_chosen(seed, data, bytes);
}

uint32_t crc32c_copy(uint32_t seed, void *restrict to, const void *restrict from, size_t bytes)
{
    return copy_chosen(seed, to, from, bytes);
}
