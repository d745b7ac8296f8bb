/*
 * base: the few words every file uses. Pure; no state but a thread's own name.
 *
 * ASSERT stays on in release builds and means "the program is wrong": it prints where and aborts,
 * because a process that has lost its invariants must not touch the log. Input, disk content and
 * peers are never ASSERTed; they are checked and answered.
 */
#ifndef CORE_BASE_H
#define CORE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_USE                 __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args)   __attribute__((format(printf, fmt, args)))
#define NORETURN                 __attribute__((noreturn))
#define LIKELY(x)                __builtin_expect(!!(x), 1)
#define UNLIKELY(x)              __builtin_expect(!!(x), 0)
#define ARRAY_COUNT(a)           (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(p, type, m) ((type *)(void *)((char *)(p)-offsetof(type, m)))

/* x86-64 prefetches lines in pairs, so two threads' words are kept two lines apart (Intel SDM,
 * "spatial prefetcher"; Agrona and folly measured the same). */
#define CACHE_LINE_BYTES   64
#define CACHE_LINE_ALIGNED __attribute__((aligned(2 * CACHE_LINE_BYTES)))

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define NS_US  UINT64_C(1000)
#define NS_MS  UINT64_C(1000000)
#define NS_S   UINT64_C(1000000000)

NORETURN void assert_failed(const char *expression, const char *file, int line);

#define ASSERT(x)                                                                                  \
    do {                                                                                           \
        if (UNLIKELY(!(x))) {                                                                      \
            assert_failed(#x, __FILE__, __LINE__);                                                 \
        }                                                                                          \
    } while (0)

/* Borrowed bytes; valid as long as what they point into. Never NUL-terminated by contract. */
struct slice {
    const uint8_t *data;
    size_t bytes;
};

#define SLICE_LITERAL(text) ((struct slice){(const uint8_t *)(text), sizeof(text) - 1})

bool slice_equal(struct slice a, struct slice b);
bool slice_equal_nocase(struct slice a, struct slice b); /* ASCII only */

static inline uint64_t u64_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t u64_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline bool is_power_of_two(uint64_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

/* alignment must be a power of two; the caller bounds value so that the sum cannot wrap. */
static inline uint64_t align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

/* What a thread is, for ASSERT_ROLE: a structure owned by one agent refuses every other. ROLE_ANY
 * (tests, tools, start-up before the agents run) passes every check. */
enum role {
    ROLE_ANY = 0,
    ROLE_SHARD,
    ROLE_WRITER,
    ROLE_KEEPER,
    ROLE_ARCHIVE,
    ROLE_CATALOG,
    ROLE_QUERY,
    ROLE_FORWARDER,
    ROLE_POLLER,
    ROLE_RUNS,
    ROLE_MAIN,
};

void role_set(enum role role);
enum role role_current(void);

#define ASSERT_ROLE(r) ASSERT(role_current() == (r) || role_current() == ROLE_ANY)

#endif
