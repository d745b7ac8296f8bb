/*
 * spsc: the byte ring of spsc.h. Two threads own it, one each end; this file is the only one that
 * touches the two shared words, tail and head. It fails in spsc_init only (no file descriptor, no
 * address space); afterwards a full ring is a NULL and an empty one is a NULL. A machine that runs
 * out of memory when a page is first touched kills the process, as for any other memory.
 *
 * Edges, each named at both ends below:
 *   R1 -> A1   tail. Orders the bytes of every committed frame, and the words of the last skip,
 *              before the position that makes them readable. Licenses the consumer to read
 *              everything below tail, and the skip words once for each new tail.
 *   R2 -> A2   head. Orders the consumer's last read of a frame, and its copy of the skip words,
 *              before the position that gives the frame up. Licenses the producer to overwrite
 *              everything below head, and the skip words once head has caught up with tail.
 *
 * A frame's bytes are always addressed as memory + (position & mask), by both sides, so that the
 * second mapping is reached only by running on from the first: the two sides use the same virtual
 * address for the same byte.
 */
#include "core/spsc.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* 256 KiB: an eighth to a half of the L2 of current server cores, so that an idle ring lives in it.
 */
#define SPSC_REWIND_BYTES KIB(256)
/* The free room that is known already is enough for a frame of unknown size when it is this many
 * times the estimate. The estimate of a request is its body; the smallest records grow five-fold
 * when a header is put before each, none eight-fold. */
#define SPSC_PLENTY 8u
/* No frame ends here: positions are multiples of 16. */
#define SPSC_NO_POSITION 1u
/* Twice this still fits a 47-bit address space with room for everything else. */
#define SPSC_CAPACITY_MAX (1ull << 44)

_Static_assert(offsetof(struct spsc, committed) % (2 * CACHE_LINE_BYTES) == 0,
               "the producer's words share no line with the read-mostly ones");
_Static_assert(offsetof(struct spsc, tail) - offsetof(struct spsc, committed) >=
                   2 * CACHE_LINE_BYTES,
               "the consumer's reads of tail do not disturb the producer's words");
_Static_assert(offsetof(struct spsc, head) - offsetof(struct spsc, tail) >= 2 * CACHE_LINE_BYTES,
               "tail and head have one writer each, so each has its own pair of lines");
_Static_assert(offsetof(struct spsc, next) - offsetof(struct spsc, head) >= 2 * CACHE_LINE_BYTES,
               "the producer's reads of head do not disturb the consumer's words");
_Static_assert(sizeof(struct spsc) % (2 * CACHE_LINE_BYTES) == 0,
               "rings side by side in a port do not share a line");
_Static_assert(SPSC_REWIND_BYTES % SPSC_FRAME_ALIGN == 0, "offsets are multiples of 16");

/* Ring bytes of a frame with that payload: header and padding. The caller has bounded payload_bytes
 * by the capacity. */
static uint64_t frame_bytes(uint64_t payload_bytes)
{
    return SPSC_FRAME_ALIGN + align_up(payload_bytes, SPSC_FRAME_ALIGN);
}

static struct spsc_frame *frame_at(const struct spsc *ring, uint64_t position)
{
    return (struct spsc_frame *)(void *)(ring->memory + (position & ring->mask));
}

static int map_half(uint8_t *at, uint64_t capacity, int fd)
{
    void *got = mmap(at, capacity, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    return got == MAP_FAILED ? -errno : 0;
}

/* One file of capacity bytes, seen twice in a row. The reservation keeps other threads' mappings
 * out of the second half until both are in place. */
static int map_twice(uint8_t **memory, uint64_t capacity, int fd, struct err *err)
{
    void *reserved =
        mmap(NULL, 2 * capacity, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) {
        int code = -errno;
        return err_set(err, code, "reserve %llu bytes of address space for a ring: %s",
                       2 * (unsigned long long)capacity, err_name(code));
    }
    int r = map_half(reserved, capacity, fd);
    if (r == 0) {
        r = map_half((uint8_t *)reserved + capacity, capacity, fd);
    }
    if (r < 0) {
        /* UNTESTED: inside an existing reservation this fails only when the system is out of map
         * entries or memory. */
        munmap(reserved, 2 * capacity);
        return err_set(err, r, "map %llu bytes of ring memory: %s", (unsigned long long)capacity,
                       err_name(r));
    }
    *memory = reserved;
    return 0;
}

static int map_ring(uint8_t **memory, uint64_t capacity, struct err *err)
{
    int fd = memfd_create("sluice-ring", MFD_CLOEXEC);
    if (fd < 0) {
        int code = -errno;
        return err_set(err, code, "create ring memory (memfd): %s", err_name(code));
    }
    int r = 0;
    if (ftruncate(fd, (off_t)capacity) != 0) {
        int code = -errno;
        r = err_set(err, code, "size ring memory to %llu bytes: %s", (unsigned long long)capacity,
                    err_name(code));
    } else {
        r = map_twice(memory, capacity, fd, err);
    }
    close(fd); /* The mappings keep the memory; a ring costs no descriptor. */
    return r;
}

int spsc_init(struct spsc *ring, uint64_t capacity, uint64_t position_start, struct err *err)
{
    ASSERT(is_power_of_two(capacity));
    ASSERT(capacity % (uint64_t)sysconf(_SC_PAGESIZE) == 0);
    ASSERT(capacity <= SPSC_CAPACITY_MAX);
    ASSERT(position_start % SPSC_FRAME_ALIGN == 0);
    memset(ring, 0, sizeof *ring);
    int r = map_ring(&ring->memory, capacity, err);
    if (r < 0) {
        return r;
    }
    ring->capacity = capacity;
    ring->mask = capacity - 1;
    ring->rewind_bytes = u64_min(SPSC_REWIND_BYTES, capacity / 4);
    ring->committed = position_start;
    ring->claimed_at = position_start;
    ring->head_cache = position_start;
    ring->used_from = position_start;
    ring->next = position_start;
    ring->tail_cache = position_start;
    ring->skip_from = ring->skip_to = SPSC_NO_POSITION;
    ring->skip_from_cache = ring->skip_to_cache = SPSC_NO_POSITION;
    /* relaxed: no second thread knows the ring yet; whatever hands it over (thread creation) orders
     * these. */
    atomic_store_explicit(&ring->tail, position_start, memory_order_relaxed);
    atomic_store_explicit(&ring->head, position_start, memory_order_relaxed);
    spsc_validate(ring);
    return 0;
}

void spsc_close(struct spsc *ring)
{
    if (ring->memory == NULL) {
        return;
    }
    spsc_validate(ring);
    int r = munmap(ring->memory, 2 * ring->capacity);
    ASSERT(r == 0);
    ring->memory = NULL;
}

/* ------------------------------------------------------------------------------------------------
 * producer */

/* Free bytes as far as the cache knows: never more than the truth, because head only moves forward.
 */
static uint64_t free_cached(const struct spsc *ring)
{
    uint64_t used = ring->committed - ring->used_from;
    ASSERT(used <= ring->capacity);
    return ring->capacity - used;
}

/* pure: does this read as a skip that an empty ring may have made? Or none yet. */
static bool is_skip(const struct spsc *ring, uint64_t from, uint64_t to)
{
    if (from == SPSC_NO_POSITION) {
        return to == SPSC_NO_POSITION;
    }
    return from % SPSC_FRAME_ALIGN == 0 && (to & ring->mask) == 0 && to - from < ring->capacity;
}

static void refresh_head(struct spsc *ring)
{
    /* A2: pairs with R2 in spsc_release. The consumer has finished with every byte below the value
     * read; overwriting them comes after this load. */
    ring->head_cache = atomic_load_explicit(&ring->head, memory_order_acquire);
    /* A consumer that has released everything before the skip and nothing behind it holds no byte
     * of the skipped stretch. head itself never lies inside the stretch or on skip_to. */
    ring->used_from = ring->head_cache == ring->skip_from ? ring->skip_to : ring->head_cache;
}

/* Where the next frame should start: normally at committed, but at the start of the memory when the
 * ring is empty and the producer is far into it. Empty means that the consumer has released
 * everything that was ever committed, so nothing is waiting unpublished either. */
static uint64_t claim_start(struct spsc *ring)
{
    uint64_t offset = ring->committed & ring->mask;
    if (LIKELY(offset <= ring->rewind_bytes)) {
        return ring->committed;
    }
    /* relaxed: only this thread writes tail. With frames unpublished the ring cannot be empty, and
     * the read of the consumer's line is saved. */
    if (atomic_load_explicit(&ring->tail, memory_order_relaxed) != ring->committed) {
        return ring->committed;
    }
    refresh_head(ring);
    if (ring->head_cache != ring->committed) {
        return ring->committed;
    }
    return ring->committed + (ring->capacity - offset);
}

/* Opens a claim of payload_bytes at start. Nothing is written yet, so that a claim given up leaves
 * no trace. */
static uint8_t *claim_open(struct spsc *ring, uint64_t start, uint64_t payload_bytes)
{
    ring->claimed_at = start;
    ring->claimed_bytes = SPSC_FRAME_ALIGN + payload_bytes;
    return frame_at(ring, start)->payload;
}

uint8_t *spsc_claim(struct spsc *ring, uint64_t payload_bytes)
{
    ring->claimed_bytes = 0;
    if (UNLIKELY(payload_bytes > ring->capacity - SPSC_FRAME_ALIGN || payload_bytes > UINT32_MAX)) {
        return NULL;
    }
    uint64_t need = frame_bytes(payload_bytes);
    uint64_t start = claim_start(ring);
    if (UNLIKELY(free_cached(ring) < need)) {
        refresh_head(ring);
        if (free_cached(ring) < need) {
            return NULL;
        }
    }
    return claim_open(ring, start, payload_bytes);
}

uint8_t *spsc_claim_most(struct spsc *ring, uint64_t payload_bytes_min, uint64_t *payload_bytes)
{
    *payload_bytes = 0;
    ring->claimed_bytes = 0;
    if (payload_bytes_min > ring->capacity - SPSC_FRAME_ALIGN || payload_bytes_min > UINT32_MAX) {
        return NULL;
    }
    uint64_t need = frame_bytes(payload_bytes_min);
    uint64_t start = claim_start(ring);
    if (free_cached(ring) / SPSC_PLENTY < need) {
        refresh_head(ring); /* worth the consumer's line only when it may matter */
    }
    uint64_t room = free_cached(ring);
    if (room < need) {
        return NULL;
    }
    /* room is a multiple of 16, so all of it behind the header is payload; the length field has 32
     * bits. */
    *payload_bytes = u64_min(room - SPSC_FRAME_ALIGN, UINT32_MAX);
    return claim_open(ring, start, *payload_bytes);
}

static void write_header(struct spsc *ring, uint64_t position, uint32_t type, uint32_t bytes,
                         uint64_t end)
{
    struct spsc_frame *frame = frame_at(ring, position);
    frame->bytes = bytes;
    frame->type = type;
    frame->end = end;
}

uint64_t spsc_commit(struct spsc *ring, uint32_t type, uint64_t payload_bytes)
{
    ASSERT(ring->claimed_bytes != 0); /* a claim is open */
    ASSERT(payload_bytes <= ring->claimed_bytes - SPSC_FRAME_ALIGN);
    uint64_t start = ring->claimed_at;
    if (UNLIKELY(start != ring->committed)) {
        /* The ring is empty and the consumer knows it (A2, in claim_start): it looks at the two
         * words again only after it has seen (A1) a tail beyond skip_from, which is stored (R1)
         * after them. The skip is committed together with the frame behind it, so a published tail
         * never ends in a skip, and a claim given up leaves the words alone. */
        ASSERT(ring->head_cache == ring->committed);
        ring->skip_from = ring->committed;
        ring->skip_to = start;
        ring->used_from = start;
        ASSERT(is_skip(ring, ring->skip_from, ring->skip_to));
    }
    uint64_t end = start + frame_bytes(payload_bytes);
    write_header(ring, start, type, (uint32_t)payload_bytes, end);
    ring->committed = end;
    ring->claimed_bytes = 0;
    ASSERT(free_cached(ring) <= ring->capacity);
    return end;
}

bool spsc_publish(struct spsc *ring)
{
    /* relaxed: only this thread writes tail. */
    if (atomic_load_explicit(&ring->tail, memory_order_relaxed) == ring->committed) {
        return false;
    }
    /* R1: the bytes of every frame below committed come before this store; pairs with A1 in
     * refresh_tail. After it the consumer may read them, and the producer writes them no more until
     * A2 gives them back. */
    atomic_store_explicit(&ring->tail, ring->committed, memory_order_release);
    return true;
}

uint64_t spsc_used_bytes(struct spsc *ring)
{
    refresh_head(ring);
    return ring->capacity - free_cached(ring);
}

/* ------------------------------------------------------------------------------------------------
 * consumer */

static void refresh_tail(struct spsc *ring)
{
    /* A1: pairs with R1 in spsc_publish. Every byte below the value read is the frame the producer
     * committed there, and the skip words are those of the last skip below it. */
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    if (tail != ring->tail_cache) {
        /* Only now, and before anything of the new tail is released: while a frame is unreleased
         * the producer does not write these words. With an unchanged tail it may be writing them.
         */
        ring->skip_from_cache = ring->skip_from;
        ring->skip_to_cache = ring->skip_to;
        ring->tail_cache = tail;
    }
}

const struct spsc_frame *spsc_take(struct spsc *ring)
{
    if (ring->next == ring->tail_cache) {
        refresh_tail(ring);
        if (ring->next == ring->tail_cache) {
            return NULL;
        }
    }
    if (UNLIKELY(ring->next == ring->skip_from_cache)) {
        ASSERT(is_skip(ring, ring->skip_from_cache, ring->skip_to_cache));
        ring->next = ring->skip_to_cache;
        ASSERT(ring->next != ring->tail_cache); /* a skip is published with the frame behind it */
    }
    const struct spsc_frame *frame = frame_at(ring, ring->next);
    /* Producer and consumer are one program: a frame that does not add up is a broken ring, not bad
     * input. */
    ASSERT(frame->end - ring->next == frame_bytes(frame->bytes));
    ASSERT(frame->end - ring->next <= ring->tail_cache - ring->next);
    ring->next = frame->end;
    return frame;
}

void spsc_release(struct spsc *ring)
{
    /* relaxed: only this thread writes head. An equal value is not stored again, which would take
     * the line away from the producer for nothing. */
    if (atomic_load_explicit(&ring->head, memory_order_relaxed) == ring->next) {
        return;
    }
    /* R2: every read of the frames below next comes before this store; pairs with A2 in
     * refresh_head. After it the producer may overwrite those bytes. */
    atomic_store_explicit(&ring->head, ring->next, memory_order_release);
}

bool spsc_is_empty(struct spsc *ring)
{
    refresh_tail(ring);
    return ring->next == ring->tail_cache;
}

/* ------------------------------------------------------------------------------------------------
 * anyone */

uint64_t spsc_pending_bytes(const struct spsc *ring)
{
    /* A2 (pairs with R2), used here for what it implies: the consumer had seen a tail at or beyond
     * this head, so the load of tail below cannot return an older one and the difference cannot be
     * negative. No byte of the ring is touched. */
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    /* relaxed: a statistic; nothing is read on its strength. */
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    /* Between the two loads the ring may have moved on by any amount: no more than all of it was
     * ever pending. */
    return u64_min(tail - head, ring->capacity);
}

void spsc_validate(const struct spsc *ring)
{
    /* relaxed, both: called only while neither side is running. */
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    ASSERT(ring->memory != NULL);
    ASSERT(is_power_of_two(ring->capacity));
    ASSERT(ring->mask == ring->capacity - 1);
    ASSERT(ring->rewind_bytes < ring->capacity);
    ASSERT(((ring->committed | tail | head | ring->next) % SPSC_FRAME_ALIGN) == 0);
    ASSERT(is_skip(ring, ring->skip_from, ring->skip_to));
    ASSERT(is_skip(ring, ring->skip_from_cache, ring->skip_to_cache));
    /* head_cache <= head <= next <= tail <= committed, told by differences because positions wrap.
     * A skip makes the span longer than what is used, by less than a capacity; only one can lie in
     * the span, because it begins where head_cache was read. */
    uint64_t span = ring->committed - ring->head_cache;
    ASSERT(span < 2 * ring->capacity);
    ASSERT(ring->used_from ==
           (ring->head_cache == ring->skip_from ? ring->skip_to : ring->head_cache));
    ASSERT(free_cached(ring) <= ring->capacity);
    ASSERT(ring->committed - head <= span);
    ASSERT(ring->committed - ring->next <= ring->committed - head);
    ASSERT(ring->committed - tail <= ring->committed - ring->next);
    ASSERT(ring->tail_cache - ring->next <= tail - ring->next);
    /* Who has seen the last tail has the last skip, unless that is still unpublished. */
    ASSERT(ring->tail_cache != ring->committed || ring->skip_from_cache == ring->skip_from);
}
