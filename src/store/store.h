/*
 * store: the door of the room. Opens a data directory (lock, recovery, processed set), runs the
 * writer and the keeper, and gives each shard a port.
 *
 * Start always succeeds on whatever a crash left (promise 7); what was cut or quarantined is in
 * struct recovery_report. The writer owns the log; the keeper prepares segments ahead of it; nobody
 * else writes below DIR.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "core/agent.h"
#include "core/err.h"
#include "core/hist.h"
#include "core/park.h"
#include "core/spsc.h"
#include "store/format.h"
#include "store/index.h"
#include "store/submit.h"

#include <stdatomic.h>

#define STORE_SHARDS_MAX 64

enum store_on_corruption {
    ON_CORRUPTION_QUARANTINE = 0,
    ON_CORRUPTION_REFUSE = 1,
};

struct file_io; /* file_io.h: the real disk or a simulated one */
struct lineage; /* lineage.h */
struct lineage_witness;

struct store_options {
    const char *data_dir;
    uint64_t segment_bytes; /* multiple of STORE_BLOCK_BYTES */
    uint64_t reserve_bytes; /* preallocated, given back to the file system when it is full */
    uint64_t
        retention_bytes;  /* SHED when the log has grown past it and nothing may be removed, or by
                                 more than the spares and two segments; 0: no limit */
    uint64_t ring_bytes;  /* capacity of each shard's submit ring */
    uint64_t batch_bytes; /* soft limit of a batch; one larger request makes a batch of its own */
    uint64_t commit_pause_ns; /* longest adaptive pause that gathers a batch when the core is
                                 saturated; 0: never */
    uint64_t dedup_ttl_ns;
    uint64_t dedup_entries_max;
    uint32_t spare_segments; /* kept prepared */
    unsigned shard_count;
    int writer_cpu; /* -1: not pinned */
    enum store_on_corruption on_corruption;
    bool allow_volatile; /* accept tmpfs: tests and benchmarks, never production */
    /* What happens to segments later (archive.h). */
    uint64_t
        segment_age_ns; /* the writer leaves an older active segment that holds records; 0: never */
    bool compacts;
    int compact_level;
    uint64_t compact_rate;
    uint64_t retention_age_ns;
    bool unforwarded_drop;
    record_keys_fn record_keys; /* NULL: indexes without filters */
    void *record_keys_context;
    /* Tells the largest LSN that anything beside the log has seen (lineage_witness_note), and changes nothing of it. Called
     * once by store_open, under the lock, when the log's end is known and before anybody reads or writes behind it. Negative
     * with a text: this directory must not be served. NULL: nobody is asked. */
    int (*witness)(void *context, const struct lineage *lineage, struct lineage_witness *witness,
                   struct err *err);
    void *witness_context;
};

/* One per shard; the shard owns one end of each ring, the writer the other. */
struct store_port {
    struct spsc submit;       /* shard -> writer */
    struct spsc acks;         /* writer -> shard */
    struct park *shard_park;  /* set by the shard before store_start */
    struct park *writer_park; /* set by the store: wake it after spsc_publish(&submit) */
};

enum store_state {
    STORE_OK = 0,
    STORE_SHED = 1, /* room is running out: new requests 429, what is in the ring is still stored */
    STORE_READ_ONLY = 2, /* nothing can be stored: 503; reads go on; comes back by itself */
    STORE_STOPPING = 3,
};

/* What the rest of the process may know at any time. Written by the writer (W) or keeper (K) only,
 * relaxed: each is a statistic or a hint whose staleness costs nothing; durable_lsn is a release
 * store (edge W1) after the acks of its batch. */
struct store_status {
    CACHE_LINE_ALIGNED _Atomic uint64_t durable_lsn; /* W */
    _Atomic uint64_t next_lsn;                       /* W: LSN the next record drained will get */
    _Atomic uint64_t run_lsn; /* W, before W1: no batch behind it holds records of kind run */
    _Atomic int state;        /* W: enum store_state */
    _Atomic uint64_t oldest_undurable_at_ns; /* W: monotonic; 0: everything drained is durable */
    _Atomic uint64_t records;                /* W: records made durable since start */
    _Atomic uint64_t batches;                /* W: without marks */
    _Atomic uint64_t marks;                  /* W */
    _Atomic uint64_t payload_bytes;          /* W: of durable batches */
    _Atomic uint64_t written_bytes;          /* W: with headers and padding */
    _Atomic uint64_t duplicates;             /* W: records dropped by the processed set */
    _Atomic uint64_t write_errors;           /* W */
    _Atomic uint64_t drain_bytes_per_s;      /* W: measured, for Retry-After */
    _Atomic uint64_t segments_sealed;        /* W */
    _Atomic uint64_t dedup_entries;          /* W */
    _Atomic uint64_t spares;                 /* K: prepared segments waiting */
    _Atomic uint64_t free_bytes;             /* K: of the file system */
    _Atomic uint64_t log_bytes;              /* K and A add what they make and remove: of all files
                                                in DIR/log; set by archive_start */
    _Atomic uint64_t prepare_errors;         /* K */
    /* What the archive (A) does and may do. */
    _Atomic uint64_t active_segment; /* W: edge W2, release: every segment below it is complete */
    _Atomic uint64_t retain_lsn;     /* forwarder: smallest cursor of any sink; UINT64_MAX: none */
    _Atomic uint64_t unapplied_lsn;  /* main: see store_set_unapplied_lsn; UINT64_MAX: none */
    _Atomic uint64_t first_lsn;      /* A: of the oldest record kept; 1 at first */
    _Atomic uint64_t sealed, compacted;                         /* A: segments, since start */
    _Atomic uint64_t compact_read_bytes, compact_written_bytes; /* A: since start */
    _Atomic uint64_t expired_segments, expired_records, expired_bytes; /* A: since start */
    _Atomic uint64_t expired_unforwarded; /* A: records, of the above, that a sink had not passed */
    _Atomic uint64_t archive_errors;      /* A */
    _Atomic uint64_t damaged_segments;    /* A: kept raw because of damage */
    _Atomic uint64_t view_generation;     /* A: edge W5, release, after a new view is published */
    _Atomic bool
        is_retention_stuck;     /* A: over retention_bytes, and the oldest segment may not go */
    struct hist commit_latency; /* W: submit of a batch to its completion */
    struct hist batch_records;  /* W: records per batch, in "ns" units of one record */
};

struct recovery_report {
    uint64_t segments;
    uint64_t last_lsn;
    uint64_t torn_batches_cut; /* above D: never acknowledged */
    uint64_t torn_bytes_cut;
    uint64_t corrupt_batches; /* at or below D: quarantined */
    uint64_t corrupt_lsn_count;
    uint64_t keys_rebuilt;
    uint64_t duration_ns;
    char text[1024]; /* one line per finding, for the log */
};

struct store;

/* io NULL: the real disk. On success the directory is locked and recovered, segments are ready, no
 * thread runs yet. */
int store_open(struct store **store, const struct store_options *options, struct file_io *io,
               struct recovery_report *report, struct err *err) MUST_USE;
struct store_port *store_port(struct store *store, unsigned shard_index);
int store_start(struct store *store, struct err *err) MUST_USE;
/* Any thread. Asks the writer to make everything submitted so far durable, write a closing mark and
 * finish. The shards must have published their last frame, and must go on reading their acks until
 * then: the writer does not finish with answers that have no room. Returns at once;
 * store_is_finished tells. */
void store_stop(struct store *store);
bool store_is_finished(const struct store *store);
/* Stops when nobody has yet (everything submitted is made durable, acks without room are dropped:
 * no shard uses its port any more), joins the threads, closes files and the lock, frees everything.
 */
void store_close(struct store *store);

/* ---- for readers: query threads, catalog, forwarder; never a shard ---- */
struct log_views;
struct recent;
struct log_views *store_views(struct store *store);
struct recent *store_recent(struct store *store);
/* Before store_start: park is woken (park_wake) whenever more is durable (STORE_TELL_DURABLE) or a
 * new view is published (STORE_TELL_VIEW). */
#define STORE_SUBSCRIBERS_MAX 16
enum {
    STORE_TELL_DURABLE = 1u << 0,
    STORE_TELL_VIEW = 1u << 1
};
void store_subscribe(struct store *store, struct park *park, unsigned what);
/* The forwarder's, later: see status->retain_lsn. Any thread. */
void store_set_retain_lsn(struct store *store, uint64_t lsn);
/* The smallest LSN whose command the agent-run database may not have yet; retention never passes it, whatever
 * store.unforwarded says. Any thread; before store_start for the first time. */
void store_set_unapplied_lsn(struct store *store, uint64_t lsn);
uint64_t store_archive_heartbeat_ns(const struct store *store);

const struct store_status *store_status(const struct store *store);
/* Of the last writer or keeper pass, monotonic; health compares them with now. */
uint64_t store_writer_heartbeat_ns(const struct store *store);
uint64_t store_keeper_heartbeat_ns(const struct store *store);
struct ulid store_node(const struct store *store);
/* Never changes; lives as long as the store. */
const struct lineage *store_lineage(const struct store *store);

#endif
