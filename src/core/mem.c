/*
 * mem: the only file that calls the system's allocator. Any thread. Out of memory is a message and
 * exit 1 for mem_alloc (it is called at start, before there is anything to lose) and a NULL for
 * mem_map (its callers can say what did not fit).
 */
#include "core/mem.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static _Atomic bool is_latched;
static _Thread_local unsigned window_depth;

/* Builds for tests latch always; a release binary latches when asked, so that the same tests can
 * run against it. */
static bool latch_is_wanted(void)
{
#ifdef SLUICE_MEM_LATCH
    return true;
#else
    const char *wish = getenv("SLUICE_MEM_LATCH");
    return wish != NULL && wish[0] == '1' && wish[1] == '\0';
#endif
}

void mem_latch(void)
{
    /* relaxed: the latch is a tripwire for tests and publishes nothing. */
    atomic_store_explicit(&is_latched, latch_is_wanted(), memory_order_relaxed);
}

void mem_unlatch(void)
{
    /* relaxed: as in mem_latch. */
    atomic_store_explicit(&is_latched, false, memory_order_relaxed);
}

void mem_unlatch_begin(void)
{
    window_depth++;
}

void mem_unlatch_end(void)
{
    ASSERT(window_depth > 0);
    window_depth--;
}

static void latch_check(void)
{
    /* relaxed: a thread that sees the latch late has merely not been caught yet. */
    if (LIKELY(!atomic_load_explicit(&is_latched, memory_order_relaxed)) || window_depth > 0) {
        return;
    }
    enum role role = role_current();
    /* An agent allocated on its data path. Those who only read the log may. */
    ASSERT(role != ROLE_SHARD && role != ROLE_WRITER && role != ROLE_KEEPER);
}

/* What CACHE_LINE_ALIGNED asks for. */
#define ALIGNED_BYTES (2 * CACHE_LINE_BYTES)
/* From here on memory is charged when it is touched, and aligned only where its elements ask for it. */
#define LAZY_BYTES MIB(1)

NORETURN static void mem_exhausted(size_t count, size_t bytes_each)
{
    char text[128];
    int length =
        snprintf(text, sizeof(text), "sluice: out of memory: %zu x %zu bytes\n", count, bytes_each);
    ssize_t written = write(STDERR_FILENO, text, length > 0 ? (size_t)length : 0);
    (void)written; /* Nobody is left to tell. */
    _exit(1);
}

void *mem_alloc_array(size_t count, size_t bytes_each)
{
    latch_check();
    size_t bytes;
    if (__builtin_mul_overflow(count, bytes_each, &bytes)) {
        mem_exhausted(count, bytes_each);
    }
    void *p = NULL;
    /* A struct with fields on cache lines of its own has a size that is a multiple of them. Of one element
     * nothing but its size is known: a buffer, or a struct, which is smaller than LAZY_BYTES. */
    bool has_aligned_elements = count > 1 && bytes_each > 0 && bytes_each % ALIGNED_BYTES == 0;
    if (bytes >= ALIGNED_BYTES && (bytes < LAZY_BYTES || has_aligned_elements)) {
        /* posix_memalign, not aligned_alloc: the size stays what was asked for, so that a sanitizer
         * sees the first byte behind it. */
        if (posix_memalign(&p, ALIGNED_BYTES, bytes) == 0) {
            memset(p, 0, bytes);
        } else {
            p = NULL;
        }
    } else {
        /* One byte for nothing: a NULL always means that there is no memory. */
        p = calloc(1, u64_max(bytes, 1));
    }
    if (p == NULL) {
        mem_exhausted(count, bytes_each);
    }
    return p;
}

void *mem_alloc(size_t bytes)
{
    return mem_alloc_array(1, bytes);
}

void mem_free(void *p)
{
    free(p);
}

void *mem_map(size_t bytes)
{
    ASSERT(bytes > 0);
    latch_check();
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void *mem_map_huge(size_t bytes)
{
    void *p = mem_map(bytes);
    if (p != NULL) {
        /* A wish: refused where the system has none, and then nothing is lost but speed. Kernels
         * from 6.7 on align such a mapping by themselves. */
        (void)madvise(p, bytes, MADV_HUGEPAGE);
    }
    return p;
}

void mem_unmap(void *p, size_t bytes)
{
    if (p == NULL) {
        return;
    }
    int r = munmap(p, bytes);
    ASSERT(r == 0); /* Fails only for a range that was never ours. */
}

void mem_release_pages(void *p, size_t bytes)
{
    ASSERT(((uintptr_t)p & 4095) == 0);
    ASSERT((bytes & 4095) == 0);
    if (bytes > 0 && madvise(p, bytes, MADV_DONTNEED) != 0) {
        /* Locked pages cannot be given back; the promise that the range reads as zeroes holds all
         * the same. */
        memset(p, 0, bytes);
    }
}
