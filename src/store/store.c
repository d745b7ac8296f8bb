/*
 * store: the door: opens a data directory, wires keeper, journal and writer, starts and stops their
 * threads. Start-up and stop only; main thread. Order of opening: disk, lock, processed set,
 * recovery, name, keeper, first segment, writer. Closing is the reverse. Every failure undoes what
 * was done, and names the step.
 */
#include "store/store.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/ioprio.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/logline.h"
#include "core/mem.h"
#include "store/recover.h"
#include "store/store_parts.h"
#include "store/store_step.h"

static int check_options(const struct store_options *options, struct err *err)
{
    if (options->segment_bytes < SEGMENT_BYTES_MIN ||
        options->segment_bytes % STORE_BLOCK_BYTES != 0) {
        return err_set(err, -EINVAL,
                       "segment_bytes %" PRIu64 ": must be a multiple of %u and at least %u",
                       options->segment_bytes, STORE_BLOCK_BYTES, SEGMENT_BYTES_MIN);
    }
    if (options->segment_bytes > UINT32_MAX) {
        return err_set(err, -EINVAL, "segment_bytes %" PRIu64 ": at most 4G",
                       options->segment_bytes);
    }
    if (options->shard_count == 0 || options->shard_count > STORE_SHARDS_MAX) {
        return err_set(err, -EINVAL, "%u shards: 1 to %d are possible", options->shard_count,
                       STORE_SHARDS_MAX);
    }
    if (!is_power_of_two(options->ring_bytes) || options->ring_bytes < STORE_BLOCK_BYTES) {
        return err_set(err, -EINVAL,
                       "ring_bytes %" PRIu64 ": must be a power of two of at least %u",
                       options->ring_bytes, STORE_BLOCK_BYTES);
    }
    return options->batch_bytes == 0 ? err_set(err, -EINVAL, "batch_bytes must not be 0") : 0;
}

static int open_disk(struct store *store, struct file_io *io, struct err *err)
{
    store->io = io;
    if (io != NULL) {
        return 0;
    }
    int r =
        file_io_real_open(&store->io, store->options.data_dir, store->options.allow_volatile, err);
    if (r < 0) {
        return r;
    }
    store->owns_io = true;
    if (!file_io_real_is_direct(store->io)) {
        LOG(LOGLINE_WARNING, "no_direct_io",
            "%s does not do direct I/O: commits go through the page cache and cost more",
            store->options.data_dir);
    }
    return node_lock_take(&store->lock, store->options.data_dir, err);
}

/* The directory's name: its file, else what the log's headers say, else a new one. A damaged file
 * is made again from the log. */
static int open_node(struct store *store, const struct recovered *recovered, struct err *err)
{
    struct err why = {0};
    int r = node_read(&store->node, store->io, &why);
    if (r == 0) {
        return 0;
    }
    if (r != -ENOENT && !(r == ERR_CORRUPT && recovered->has_node)) {
        return err_set(err, r, "%s", why.text);
    }
    store->node = recovered->node;
    if (!recovered->has_node) {
        struct ulid_source source;
        ulid_source_init(&source);
        store->node = ulid_next(&source, store->io->ops->real_ns(store->io));
    }
    return node_write(&store->node, store->io, err);
}

static int open_ports(struct store *store, struct err *err)
{
    for (unsigned i = 0; i < store->options.shard_count; i++) {
        struct store_port *port = &store->ports[i];
        port->writer_park = &store->writer_park;
        int r = spsc_init(&port->submit, store->options.ring_bytes, 0, err);
        r = r < 0 ? r : spsc_init(&port->acks, WRITER_ACKS_BYTES, 0, err);
        if (r < 0) {
            return err_wrap(err, r, "shard %u", i);
        }
    }
    return 0;
}

static int open_keeper(struct store *store, struct recovered *recovered, struct err *err)
{
    struct keeper_options options = {.io = store->io,
                                     .status = &store->status,
                                     .writer_park = &store->writer_park,
                                     .node = store->node,
                                     .segment_bytes = store->options.segment_bytes,
                                     .reserve_bytes = store->options.reserve_bytes,
                                     .spares = store->options.spare_segments,
                                     .origins = store->origins,
                                     .id_next = recovered->segment_id_next};
    store->has_keeper = true;
    int r = keeper_init(&store->keeper, &options, err);
    if (r < 0) {
        return r;
    }
    for (unsigned i = 0; i < recovered->spare_count; i++) {
        bool is_added = keeper_add_spare(&store->keeper, &recovered->spares[i]);
        ASSERT(is_added);
        recovered->spares[i].state = SEGMENT_NONE; /* handed over */
    }
    bool needs_segment =
        recovered->start.active.state == SEGMENT_NONE && recovered->spare_count == 0;
    struct err why = {0};
    if (needs_segment && keeper_prepare_one(&store->keeper, &why) < 0) {
        /* The start still succeeds: reads go on, and the keeper tries again (promise 7). */
        LOG(LOGLINE_ERROR, "prepare_failed", "%s", why.text);
    }
    keeper_reserve(&store->keeper);
    return 0;
}

static void tell_of_view(void *context)
{
    store_readers_tell(context, STORE_TELL_VIEW);
}

/* The segment below which the files are complete, as far as recovery can tell (edge W2). An active
 * one without a batch proves nothing about the one before it. */
static uint64_t active_segment(const struct recovered *recovered)
{
    const struct segment *active = &recovered->start.active;
    if (active->state == SEGMENT_ACTIVE) {
        return active->end > STORE_BLOCK_BYTES ? active->id : active->id - 1;
    }
    return recovered->spare_count != 0 ? recovered->spares[0].id - 1
                                       : recovered->segment_id_next - 1;
}

/* The archive yields to everything else: it runs when a core is idle, and its reads and writes wait
 * for the disk to be. Not being allowed to say so costs some latency under load, nothing else. */
#define ARCHIVE_NICE     19
#define ARCHIVE_SLICE_NS (NS_MS / 10)

/* struct sched_attr of sched_setattr(2), whose header goes with no glibc of its time. */
struct priority_attr {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

static void archive_set_priority(const struct priority_attr *wanted, int io_class)
{
    if (syscall(SYS_sched_setattr, 0, wanted, 0) < 0) {
        LOG(LOGLINE_DEBUG, "archive_priority", "nice %d: %s", wanted->nice, err_name(-errno));
    }
    if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, io_class << IOPRIO_CLASS_SHIFT) < 0) {
        LOG(LOGLINE_DEBUG, "archive_priority", "I/O priority: %s", err_name(-errno));
    }
}

/* The least share of a core (1.5 % of a busy one), in the shortest turns. Not SCHED_IDLE: on cores that are always busy that is
 * next to nothing, so that segments neither sealed nor expired, and a thread without privileges cannot leave it again
 * (sched(7)). Kernels before 6.12 take the slice for nothing. The way back needs CAP_SYS_NICE or RLIMIT_NICE (getrlimit(2));
 * without them the writer sheds (RETENTION_LATE_SEGMENTS) where expiry gets too little of the cores. */
static void archive_on_hurry(void *context, bool hurries)
{
    const struct store *store = context;
    const struct priority_attr gentle = {.size = sizeof gentle,
                                         .policy = SCHED_BATCH,
                                         .nice = ARCHIVE_NICE,
                                         .runtime = ARCHIVE_SLICE_NS};
    const struct priority_attr as_others = {
        .size = sizeof as_others, .policy = SCHED_OTHER, .nice = store->nice};
    archive_set_priority(hurries ? &as_others : &gentle,
                         hurries ? IOPRIO_CLASS_NONE : IOPRIO_CLASS_IDLE);
}

/* After the keeper has made its first segment: the archive sums up what there is. */
static int open_archive(struct store *store, uint64_t active_segment_id, struct err *err)
{
    const struct store_options *from = &store->options;
    struct archive_options options = {.io = store->io,
                                      .status = &store->status,
                                      .views = store->readers.views,
                                      .park = &store->archive_park,
                                      .node = store->node,
                                      .compacts = from->compacts,
                                      .zstd_level = from->compact_level,
                                      .retention_bytes = from->retention_bytes,
                                      .retention_age_ns = from->retention_age_ns,
                                      .unforwarded_drop = from->unforwarded_drop,
                                      .pace_bytes_per_s = from->compact_rate,
                                      .keys = from->record_keys,
                                      .keys_context = from->record_keys_context,
                                      .on_view = tell_of_view,
                                      .on_view_context = &store->readers,
                                      .on_hurry = archive_on_hurry,
                                      .on_hurry_context = store};
    /* relaxed, both: the threads are not running yet. */
    atomic_store_explicit(&store->status.active_segment, active_segment_id, memory_order_relaxed);
    atomic_store_explicit(&store->status.retain_lsn, UINT64_MAX, memory_order_relaxed);
    atomic_store_explicit(&store->status.unapplied_lsn, UINT64_MAX, memory_order_relaxed);
    int r = archive_open(&store->archive, &options, err);
    return r < 0 ? r : archive_start(store->archive, err);
}

static int open_writer(struct store *store, const struct recovered *recovered, struct err *err)
{
    struct writer_options options = {.io = store->io,
                                     .status = &store->status,
                                     .keeper = &store->keeper,
                                     .dedup = store->dedup,
                                     .origins = store->origins,
                                     .park = &store->writer_park,
                                     .ports = store->ports,
                                     .shard_count = store->options.shard_count,
                                     .ring_bytes = store->options.ring_bytes,
                                     .batch_bytes = store->options.batch_bytes,
                                     .segment_bytes = store->options.segment_bytes,
                                     .retention_bytes = store->options.retention_bytes,
                                     .segment_age_ns = store->options.segment_age_ns,
                                     .archive_park = &store->archive_park,
                                     .commit_pause_ns = store->options.commit_pause_ns,
                                     .readers = &store->readers,
                                     .start = recovered->start};
    store->has_writer = true;
    if (segment_payload_max(options.segment_bytes) < options.ring_bytes) {
        LOG(LOGLINE_WARNING, "small_segments",
            "requests of more than %" PRIu64 " bytes do not fit into a segment",
            segment_payload_max(options.segment_bytes));
    }
    return writer_init(&store->writer, &options, err);
}

/* Before anything that has seen more than the log holds is set right: until then it is the only witness. */
static int open_lineage(struct store *store, uint64_t last_lsn, struct err *err)
{
    const struct store_options *options = &store->options;
    struct lineage_witness witness = {0};
    int r = lineage_read(&store->lineage, store->io, store->node, err);
    if (r < 0) {
        return r;
    }
    lineage_witness_note(&witness, origins_peek(store->io, &store->node), "DIR/" ORIGINS_FILE);
    if (options->witness != NULL) {
        r = options->witness(options->witness_context, &store->lineage, &witness, err);
    }
    return r < 0 ? r : lineage_settle(&store->lineage, store->io, last_lsn, &witness, err);
}

/* What other nodes sent that is in the log: after recovery has made one of it. */
static int open_origins(struct store *store, const struct journal_start *start, struct err *err)
{
    struct origins_options options = {.limits = {.nodes_max = ORIGINS_NODES_MAX,
                                                 .intervals_max = ORIGINS_INTERVALS_MAX,
                                                 .all_max = ORIGINS_ALL_MAX},
                                      .node = store->node,
                                      .lineage = &store->lineage,
                                      .last_lsn = start->lsn,
                                      .origin_lsn = start->origin_lsn};
    return origins_open(&store->origins, store->io, &options, err);
}

static int open_log(struct store *store, struct recovery_report *report, struct err *err)
{
    struct recovered recovered;
    struct recover_options options = {.io = store->io,
                                      .dedup = store->dedup,
                                      .dedup_ttl_ns = store->options.dedup_ttl_ns,
                                      .segment_bytes = store->options.segment_bytes,
                                      .walk_bytes = RECOVER_WALK_BYTES,
                                      .on_corruption = store->options.on_corruption};
    int r = recover_run(&recovered, &options, report, err);
    if (r < 0) {
        return r;
    }
    r = open_node(store, &recovered, err);
    r = r < 0 ? r : open_lineage(store, recovered.start.lsn, err);
    r = r < 0 ? r : open_origins(store, &recovered.start, err);
    r = r < 0 ? r : open_ports(store, err);
    uint64_t active = active_segment(&recovered); /* before the keeper takes the spares */
    r = r < 0 ? r : open_keeper(store, &recovered, err);
    r = r < 0 ? r : open_archive(store, active, err);
    if (r < 0) { /* what the keeper and the writer have not taken over yet */
        for (unsigned i = 0; i < recovered.spare_count; i++) {
            segment_close(&recovered.spares[i], store->io);
        }
        segment_close(&recovered.start.active, store->io);
        return r;
    }
    return open_writer(store, &recovered, err);
}

int store_open(struct store **out, const struct store_options *options, struct file_io *io,
               struct recovery_report *report, struct err *err)
{
    int r = check_options(options, err);
    if (r < 0) {
        return err_wrap(err, r, "open the store");
    }
    /* Mapped, not allocated: its parts want whole cache lines. */
    struct store *store = mem_map(sizeof *store);
    if (store == NULL) {
        return err_set(err, -ENOMEM, "open the store: map %zu bytes", sizeof *store);
    }
    memset(report, 0, sizeof *report);
    store->options = *options;
    store->lock.fd = -1;
    store->writer_park.fd = -1;
    store->archive_park.fd = -1;
    r = open_disk(store, io, err);
    r = r < 0 ? r : park_init(&store->writer_park, err);
    r = r < 0 ? r
              : dedup_open(&store->dedup, options->dedup_entries_max, options->dedup_ttl_ns, err);
    r = r < 0 ? r : recent_open(&store->readers.recent, err);
    r = r < 0 ? r : park_init(&store->archive_park, err);
    r = r < 0 ? r : log_views_open(&store->readers.views, store->io, err);
    r = r < 0 ? r : open_log(store, report, err);
    if (r < 0) {
        store_close(store);
        return err_wrap(err, r, "open store %s",
                        options->data_dir == NULL ? "" : options->data_dir);
    }
    *out = store;
    return 0;
}

int store_open_single(struct store **out, const struct store_options *options, struct file_io *io,
                      struct recovery_report *report, struct err *err)
{
    int r = store_open(out, options, io, report, err);
    if (r < 0) {
        return r;
    }
    r = (*out)->io->ops->writer_start((*out)->io, err);
    if (r < 0) {
        store_close(*out);
        *out = NULL;
        return r;
    }
    (*out)->is_single = true;
    return 0;
}

int store_step_writer(struct store *store)
{
    ASSERT(store->is_single);
    return writer_duty(&store->writer);
}

int store_step_keeper(struct store *store)
{
    ASSERT(store->is_single);
    return keeper_duty(&store->keeper);
}

int store_step_archive(struct store *store)
{
    ASSERT(store->is_single);
    return archive_step(store->archive);
}

struct store_port *store_port(struct store *store, unsigned shard_index)
{
    ASSERT(shard_index < store->options.shard_count);
    return &store->ports[shard_index];
}

static int writer_on_start(void *context, struct err *err)
{
    struct writer *writer = context;
    return writer->io->ops->writer_start(writer->io, err);
}

static void writer_on_stop(void *context)
{
    struct writer *writer = context;
    writer->io->ops->writer_stop(writer->io);
}

static void join_archive(struct store *store)
{
    if (store->has_archive_agent) {
        archive_stop(store->archive);
        agent_join(&store->archive_agent);
    }
    store->has_archive_agent = false;
}

static void join_keeper(struct store *store)
{
    /* relaxed: the join below orders everything. */
    atomic_store_explicit(&store->keeper.stop, true, memory_order_relaxed);
    (void)park_wake(&store->keeper.park, true);
    agent_join(&store->keeper_agent);
}

int store_start(struct store *store, struct err *err)
{
    ASSERT(!store->is_started);
    ASSERT(!store->is_single);
    struct agent_options keeper = {.name = "keeper",
                                   .role = ROLE_KEEPER,
                                   .cpu = -1,
                                   .context = &store->keeper,
                                   .duty = keeper_agent_duty};
    struct agent_options writer = {.name = "writer",
                                   .role = ROLE_WRITER,
                                   .cpu = store->options.writer_cpu,
                                   .context = &store->writer,
                                   .on_start = writer_on_start,
                                   .duty = writer_duty,
                                   .on_stop = writer_on_stop};
    struct agent_options archive = {.name = "archive",
                                    .role = ROLE_ARCHIVE,
                                    .cpu = -1,
                                    .context = store->archive,
                                    .on_start = archive_agent_start,
                                    .duty = archive_duty};
    store->nice = getpriority(PRIO_PROCESS, 0);
    int r = agent_start(&store->keeper_agent, &keeper, err);
    if (r < 0) {
        return r;
    }
    r = agent_start(&store->archive_agent, &archive, err);
    store->has_archive_agent = r >= 0;
    r = r < 0 ? r : agent_start(&store->writer_agent, &writer, err);
    if (r < 0) {
        join_archive(store);
        join_keeper(store);
        return r;
    }
    store->is_started = true;
    return 0;
}

void store_stop(struct store *store)
{
    writer_stop(&store->writer);
}

bool store_is_finished(const struct store *store)
{
    return !store->is_started ||
           (agent_is_finished(&store->writer_agent) && agent_is_finished(&store->keeper_agent));
}

void store_close(struct store *store)
{
    if (store->is_started) {
        writer_stop_unheard(&store->writer); /* the rings go with us: nobody may be reading */
        agent_join(&store->writer_agent);
        agent_join(&store->keeper_agent);
        join_archive(store);
        origins_save(store->origins, store->io);
    }
    if (store->is_single) {
        store->io->ops->writer_stop(
            store->io); /* nothing of ours may be in flight when its memory goes */
    }
    if (store->has_writer) {
        writer_close(&store->writer);
    }
    if (store->has_keeper) {
        keeper_close(&store->keeper);
    }
    for (unsigned i = 0; i < store->options.shard_count; i++) {
        spsc_close(&store->ports[i].submit);
        spsc_close(&store->ports[i].acks);
    }
    archive_close(store->archive);
    log_views_close(store->readers.views);
    recent_close(store->readers.recent);
    origins_close(store->origins);
    dedup_close(store->dedup);
    park_close(&store->archive_park);
    park_close(&store->writer_park);
    node_lock_give(&store->lock);
    if (store->owns_io) {
        store->io->ops->destroy(store->io);
    }
    mem_unmap(store, sizeof *store);
}

const struct store_status *store_status(const struct store *store)
{
    return &store->status;
}

uint64_t store_writer_heartbeat_ns(const struct store *store)
{
    /* relaxed: a time for health, compared with now. */
    return atomic_load_explicit(&store->writer_agent.heartbeat_ns, memory_order_relaxed);
}

uint64_t store_keeper_heartbeat_ns(const struct store *store)
{
    return atomic_load_explicit(&store->keeper_agent.heartbeat_ns,
                                memory_order_relaxed); /* relaxed: as above */
}

struct ulid store_node(const struct store *store)
{
    return store->node;
}

const struct lineage *store_lineage(const struct store *store)
{
    return &store->lineage;
}
