/*
 * keeper: room ahead of the writer; see keeper.h. One pass does at most one slow thing, so that a
 * stop never waits for two.
 *
 * The reserve file holds space that nothing but an orderly end may use. For now it is kept, and
 * made again when it is missing and space has returned; giving it back is for the rooms (cursors,
 * closing marks outside the log) that will need it.
 */
#include "store/keeper.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <time.h>

#include "core/logline.h"
#include "core/mem.h"

#define LOOK_NS NS_S /* free space is asked for this often */

_Static_assert((KEEPER_READY_MAX & (KEEPER_READY_MAX - 1)) == 0, "places are found by masking");

/* relaxed: each has one writing thread; readers are other threads' statistics. */
static void stat_set(_Atomic uint64_t *to, uint64_t value)
{
    atomic_store_explicit(to, value, memory_order_relaxed);
}

static void look_at_space(struct keeper *keeper, uint64_t now_ns)
{
    uint64_t bytes = 0;
    keeper->looked_at_ns = now_ns;
    if (keeper->io->ops->free_bytes(keeper->io, &bytes) == 0) {
        stat_set(&keeper->status->free_bytes, bytes);
    }
}

int keeper_init(struct keeper *keeper, const struct keeper_options *options, struct err *err)
{
    ASSERT(options->segment_bytes >= SEGMENT_BYTES_MIN);
    *keeper =
        (struct keeper){.io = options->io,
                        .status = options->status,
                        .origins = options->origins,
                        .node = options->node,
                        .segment_bytes = options->segment_bytes,
                        .reserve_bytes = options->reserve_bytes,
                        .spares_wanted = u64_min(u64_max(options->spares, 1), KEEPER_READY_MAX),
                        .writer_park = options->writer_park,
                        .id_next = options->id_next};
    keeper->park.fd = -1;
    keeper->zeroes = mem_map_huge(SEGMENT_CHUNK_BYTES);
    keeper->block = mem_map(STORE_BLOCK_BYTES);
    if (keeper->zeroes == NULL || keeper->block == NULL) {
        return err_set(err, -ENOMEM, "open the keeper: map its buffers");
    }
    look_at_space(keeper, keeper->io->ops->mono_ns(keeper->io));
    return park_init(&keeper->park, err);
}

void keeper_close(struct keeper *keeper)
{
    /* relaxed: the threads have ended. */
    uint64_t tail = atomic_load_explicit(&keeper->ready_tail, memory_order_relaxed);
    for (uint64_t i = atomic_load_explicit(&keeper->ready_head, memory_order_relaxed); i != tail;
         i++) {
        segment_close(&keeper->ready[i & (KEEPER_READY_MAX - 1)], keeper->io);
    }
    if (keeper->zeroes != NULL) {
        mem_unmap(keeper->zeroes, SEGMENT_CHUNK_BYTES);
    }
    if (keeper->block != NULL) {
        mem_unmap(keeper->block, STORE_BLOCK_BYTES);
    }
    park_close(&keeper->park);
}

static uint64_t ready_count(const struct keeper *keeper)
{
    /* relaxed: the keeper's own index. */
    uint64_t tail = atomic_load_explicit(&keeper->ready_tail, memory_order_relaxed);
    /* A21: the place behind this index has been emptied; pairs with R21 in keeper_take. */
    return tail - atomic_load_explicit(&keeper->ready_head, memory_order_acquire);
}

bool keeper_add_spare(struct keeper *keeper, const struct segment *segment)
{
    ASSERT(segment->state == SEGMENT_PREPARED);
    if (ready_count(keeper) == KEEPER_READY_MAX) {
        return false;
    }
    uint64_t tail =
        atomic_load_explicit(&keeper->ready_tail, memory_order_relaxed); /* relaxed: own index */
    keeper->ready[tail & (KEEPER_READY_MAX - 1)] = *segment;
    /* R20: publishes the segment; pairs with A20 in keeper_take. After this it is the writer's. */
    atomic_store_explicit(&keeper->ready_tail, tail + 1, memory_order_release);
    stat_set(&keeper->status->spares, ready_count(keeper));
    return true;
}

/* Zeroes written ahead save each small commit a journal commit of the file system (94 against 201
 * us at 4 KiB), and cost a second write of every byte. When segments are used up this fast, commits
 * are large: then the wait is small beside the transfer (144 against 264 us at 256 KiB), and the
 * disk's bandwidth is worth more. */
#define KEEPER_FAST_NS (400 * NS_MS)

static bool is_used_up_fast(struct keeper *keeper)
{
    uint64_t now_ns = keeper->io->ops->mono_ns(keeper->io);
    /* relaxed: the writer's statistic; late by one it costs one segment's zeroes. */
    uint64_t sealed = atomic_load_explicit(&keeper->status->segments_sealed, memory_order_relaxed);
    uint64_t count = sealed - keeper->sealed_seen;
    bool is_fast = count > 0 && keeper->sealed_at_ns != 0 &&
                   (now_ns - keeper->sealed_at_ns) / count < KEEPER_FAST_NS;
    keeper->sealed_seen = sealed;
    keeper->sealed_at_ns = now_ns;
    return is_fast;
}

int keeper_prepare_one(struct keeper *keeper, struct err *err)
{
    struct segment segment;
    struct segment_options options = {.id = keeper->id_next,
                                      .file_bytes = keeper->segment_bytes,
                                      .node = keeper->node,
                                      .zeroes = keeper->zeroes,
                                      .block = keeper->block,
                                      .skip_zeroing = is_used_up_fast(keeper),
                                      .hurry = &keeper->hurry};
    int r = segment_prepare(&segment, keeper->io, &options, err);
    /* relaxed: a hint for the writer's state; what it licenses (keeper_take) is ordered by R20. */
    atomic_store_explicit(&keeper->is_failing, r < 0, memory_order_relaxed);
    if (r < 0) {
        stat_set(&keeper->status->prepare_errors,
                 atomic_load_explicit(&keeper->status->prepare_errors, memory_order_relaxed) + 1);
        return r;
    }
    keeper->id_next++;
    /* relaxed: a sum that the archive adds to as well, and nobody orders anything by. */
    (void)atomic_fetch_add_explicit(&keeper->status->log_bytes, keeper->segment_bytes,
                                    memory_order_relaxed);
    bool is_added = keeper_add_spare(keeper, &segment);
    ASSERT(is_added);
    return 0;
}

static int reserve_make(struct keeper *keeper)
{
    struct file file;
    int r = keeper->io->ops->open(keeper->io, KEEPER_RESERVE, FILE_OPEN_CREATE, &file);
    if (r < 0) {
        return r;
    }
    int64_t size = keeper->io->ops->size(keeper->io, file);
    if (size != (int64_t)keeper->reserve_bytes) {
        r = keeper->io->ops->truncate(keeper->io, file, 0);
        r = r < 0 ? r : keeper->io->ops->allocate(keeper->io, file, keeper->reserve_bytes);
        r = r < 0 ? r : keeper->io->ops->sync(keeper->io, file);
    }
    keeper->io->ops->close(keeper->io, file);
    if (r < 0) {
        (void)keeper->io->ops->unlink(
            keeper->io, KEEPER_RESERVE); /* half a reserve would only take room from the log */
    }
    return r;
}

void keeper_reserve(struct keeper *keeper)
{
    uint64_t room = atomic_load_explicit(&keeper->status->free_bytes,
                                         memory_order_relaxed); /* relaxed: own statistic */
    if (keeper->has_reserve || keeper->reserve_bytes == 0) {
        return;
    }
    if (keeper->warned_reserve && room < keeper->reserve_bytes + 2 * keeper->segment_bytes) {
        return; /* space has not returned */
    }
    int r = reserve_make(keeper);
    keeper->has_reserve = r == 0;
    if (r < 0 && !keeper->warned_reserve) {
        LOG(LOGLINE_WARNING, "no_reserve", "the reserve of %" PRIu64 " bytes cannot be made: %s",
            keeper->reserve_bytes, err_name(r));
    }
    keeper->warned_reserve = r < 0;
}

static void keep_spares(struct keeper *keeper, uint64_t now_ns)
{
    if (ready_count(keeper) >= keeper->spares_wanted || now_ns < keeper->retry_at_ns) {
        return;
    }
    struct err err = {0};
    int r = keeper_prepare_one(keeper, &err);
    keeper->retry_at_ns = 0;
    if (r < 0) {
        keeper->retry_at_ns = now_ns + KEEPER_RETRY_NS;
        LOG(LOGLINE_WARNING, "prepare_failed", "%s", err.text);
    }
    /* Either way the writer may wait for this answer. */
    (void)park_wake(keeper->writer_park, true);
    look_at_space(keeper, now_ns);
}

int keeper_duty(void *context)
{
    struct keeper *keeper = context;
    ASSERT_ROLE(ROLE_KEEPER);
    uint64_t now_ns = keeper->io->ops->mono_ns(keeper->io);
    /* relaxed: the writer's last act; the join orders the rest. */
    if (atomic_load_explicit(&keeper->stop, memory_order_relaxed)) {
        return 1;
    }
    if (keeper->origins != NULL) {
        origins_write(keeper->origins, keeper->io);
    }
    keep_spares(keeper, now_ns);
    if (now_ns - keeper->looked_at_ns >= LOOK_NS) {
        look_at_space(keeper, now_ns);
        keeper_reserve(keeper);
    }
    stat_set(&keeper->status->spares, ready_count(keeper));
    return 0;
}

static bool has_work(const struct keeper *keeper)
{
    bool may_try = keeper->io->ops->mono_ns(keeper->io) >= keeper->retry_at_ns;
    /* relaxed: park_prepare's barrier orders this second look. */
    return atomic_load_explicit(&keeper->stop, memory_order_relaxed) ||
           (ready_count(keeper) < keeper->spares_wanted && may_try);
}

int keeper_agent_duty(void *context)
{
    struct keeper *keeper = context;
    int r = keeper_duty(keeper);
    if (r != 0) {
        return r;
    }
    park_prepare(&keeper->park, PARK_ANY);
    if (!has_work(keeper)) {
        struct pollfd poll_fd = {.fd = keeper->park.fd, .events = POLLIN};
        struct timespec timeout = {.tv_nsec = (long)KEEPER_SLEEP_NS};
        if (ppoll(&poll_fd, 1, &timeout, NULL) > 0) {
            park_drain(&keeper->park);
        }
    }
    park_cancel(&keeper->park);
    return 0;
}

int keeper_take(struct keeper *keeper, struct segment *segment)
{
    uint64_t head = atomic_load_explicit(
        &keeper->ready_head, memory_order_relaxed); /* relaxed: the writer's own index */
    /* A20: the segment's fields; pairs with R20 in keeper_add_spare. */
    if (head == atomic_load_explicit(&keeper->ready_tail, memory_order_acquire)) {
        atomic_store_explicit(&keeper->hurry, true, memory_order_relaxed); /* relaxed: a hint */
        (void)park_wake(&keeper->park, true);
        return -EAGAIN;
    }
    *segment = keeper->ready[head & (KEEPER_READY_MAX - 1)];
    atomic_store_explicit(&keeper->hurry, false, memory_order_relaxed); /* relaxed: a hint */
    /* R21: the place may be used again; pairs with A21 in ready_count. */
    atomic_store_explicit(&keeper->ready_head, head + 1, memory_order_release);
    (void)park_wake(&keeper->park, true); /* the next one */
    return 0;
}

bool keeper_is_ready(const struct keeper *keeper)
{
    /* relaxed, both: keeper_take looks again, and orders. */
    return atomic_load_explicit(&keeper->ready_head, memory_order_relaxed) !=
           atomic_load_explicit(&keeper->ready_tail, memory_order_relaxed);
}

bool keeper_is_out(const struct keeper *keeper)
{
    /* relaxed, all: the state that follows from this is corrected one pass later. */
    return atomic_load_explicit(&keeper->is_failing, memory_order_relaxed) &&
           atomic_load_explicit(&keeper->ready_head, memory_order_relaxed) ==
               atomic_load_explicit(&keeper->ready_tail, memory_order_relaxed);
}
