/*
 * delivery_parts: what the files of delivery share; nobody else includes it. One thread, that of the delivery.
 *
 * WHAT IS WANTED AND WHAT IS WRITTEN. The memory of a delivery is what the database shall say: position, batches, quarantine. A pass
 * changes memory first; delivery_rows_write then brings the database there, and the commit makes it so. When the commit fails nothing
 * is taken back: the same rows are written by the next pass, and nothing new is begun before that. What others may rely on (requests,
 * pictures, the LSN to retain) is only ever what was committed: a batch whose row is not ROW_CLEAN is not sent.
 *
 * THE LIFE OF A BATCH
 *   (reading) ─ frozen ─► READY ─ sent ─► SENT ─ answer ─► ANSWERED ─┬─ done ──────────────► GONE
 *        ▲                  ▲ └──────── passing trouble ◄────────────┤
 *        │   read again     │                                        ├─ items: what is left ─► COLD
 *        └───────────── COLD (no body in memory) ◄───────────────────┴─ refused: two halves ─► COLD, COLD; one record ─► quarantine
 * A COLD batch whose digest is known is read again and must give the same bytes (a restart); one without (a half, a remainder, a
 * re-queued record) gets its manifest when it is read, and is sent after the commit of that. One that gives other bytes than its
 * manifest names (another encoding, records that are gone) loses it and is frozen anew, at another time and so under another key.
 */
#ifndef FORWARD_DELIVERY_PARTS_H
#define FORWARD_DELIVERY_PARTS_H

#include "forward/compress.h"
#include "forward/delivery.h"
#include "forward/lag.h"
#include "forward/protocol.h"
#include "forward/retry.h"
#include "store/digest.h"
#include "store/log_view.h"
#include "store/store.h"

/* A manifest names at most so many LSNs, taken or not: reading it again is bounded. */
#define BATCH_LSNS_MAX UINT64_C(262144)
/* Batches of one sink beyond which no new ones are frozen: remainders that wait out their backoff hold no body and do not hold
 * up the lane, but they are not to become endlessly many either. */
#define BATCHES_MAX    1024u
#define DELIVERY_LANES 2u
/* So often in a row a batch is tried from memory. After that it is set aside: new batches have a slot that it cannot take, so that
 * others get through when it is the batch that fails and not the upstream. */
#define RETRIES_MAX 4u

/* The memory of one request: being made, waiting or under way. Kept between requests. */
struct slot {
    bool is_used;
    struct encoder encoder;
    struct body wire;  /* compressed; not used with identity */
    uint32_t *offsets; /* of its records, from first_lsn */
    uint32_t offset_room;
    struct judgement judgement; /* ANSWERED */
    uint8_t *items;
    uint32_t item_room;
    char (*item_reasons)[FORWARD_REASON_BYTES / 2];
};

enum batch_state {
    BATCH_COLD = 0,
    BATCH_LOADING,
    BATCH_READY,
    BATCH_SENT,
    BATCH_ANSWERED,
    BATCH_GONE,
};
enum row_state {
    ROW_CLEAN = 0,
    ROW_PUT,
    ROW_DELETE,
};
struct batch {
    struct delivery *delivery;
    struct frozen frozen; /* only: owned */
    bool has_manifest;    /* the digest is known */
    enum batch_state state;
    enum row_state row;
    bool is_stored; /* the row is in the database */
    struct slot *slot;
    char key[FORWARD_KEY_BYTES];
    uint64_t not_before_ns;
    uint64_t
        sent_at_ns;    /* when it was sent last; before that, when it was made: whose turn it is */
    int64_t oldest_ns; /* receipt of its oldest record; 0: not read yet */
    unsigned retries_in_a_row;
};

/* A change to quarantine that is still to be written. */
enum note_type {
    NOTE_PUT = 1,
    NOTE_SET,
    NOTE_DELETE,
};
struct note {
    enum note_type type;
    struct quarantined item; /* payload and meta of PUT: behind the struct */
    struct note *next;
    uint8_t bytes[];
};

/* Records of a range on their way into an encoder. */
struct reading {
    struct delivery *delivery;
    struct scan *scan;
    struct slot *slot;
    struct batch *batch;    /* a batch that is read again; NULL: new records of a lane */
    uint64_t first_lsn;     /* of the manifest */
    uint64_t next_lsn;      /* everything below is accounted for */
    uint64_t end_lsn;       /* nothing at or above it is wanted; UINT64_MAX: open */
    uint64_t step_first;    /* first LSN shown by the step; 0: none */
    uint64_t step_shown;    /* how many it showed */
    uint64_t began_ns;      /* when it began to wait for company; 0: it holds nothing */
    uint64_t look_again_ns; /* after an error of the system */
    uint64_t damaged, expired, unsupported;
    uint64_t payload_bytes;
    int64_t oldest_ns, newest_ns;
    struct note *notes; /* records that cannot be said to this upstream */
    bool is_full;
    bool has_carry; /* a record that was shown and did not fit */
    struct forward_record carry;
    uint8_t *carry_bytes;
    size_t carry_room;
};

/* A whole file on its way into a slot, in pieces. Names its segment by id: no view is held between two pieces. */
struct segment_reading {
    struct slot *slot;   /* NULL: nothing is read */
    struct batch *batch; /* that is read again; NULL: a new one */
    uint64_t id;
    enum view_state state;
    uint64_t stored_bytes;
    uint64_t at; /* bytes read */
};

struct delivery {
    struct delivery_options options;
    const struct config_sink *sink;
    const struct protocol *protocol;
    uint32_t kinds;
    char encoding[FORWARD_ENCODING_BYTES];
    struct compress compress;

    struct sink_position position; /* as wanted */
    bool is_position_dirty;
    bool must_write_stream; /* with the position: it stands in the current stream now */
    struct batch **batches;
    size_t batch_count, batch_room;
    struct note *notes;
    bool is_stopping;
    bool is_written; /* by the pass under way: the commit makes it so */
    uint64_t rewrite_at_ns;
    bool must_rewrite; /* the last commit failed: nothing new before it has succeeded */

    struct sink_position committed;
    uint64_t committed_frozen_records, committed_frozen_batches, committed_frozen_bytes;
    uint64_t committed_retain_lsn;

    struct reading lanes[DELIVERY_LANES]; /* by enum lane_id */
    struct reading loader;
    struct segment_reading segment;
    struct slot *slots;
    unsigned slot_count;

    struct breaker breaker;
    struct window window;
    struct bucket bucket;
    unsigned in_flight, backlog_in_flight;
    bool is_paused;
    uint64_t paused_until_ns;
    bool has_success; /* since the last trouble: the upstream takes requests */
    uint64_t random;
    uint64_t answered_count;
    uint64_t
        take_again_ns; /* an answer could not be taken in: a record to quarantine was not readable */
    uint64_t end_lsn_max; /* replay: nothing above it */

    struct sink_picture picture;
    bool was_unbalanced;
    struct lag lag;
    uint64_t record_bytes_mean;
};

/* delivery.c */
uint64_t delivery_durable(const struct delivery *delivery);
uint64_t delivery_log_begin(const struct delivery *delivery);
uint64_t delivery_random(struct delivery *delivery);
/* text without the sink's name, where it begins with it: log lines say that name first themselves. */
const char *delivery_said(const struct delivery *delivery, const char *text);
/* [from, to) is gone: how much of it has expired, the rest being damage. */
uint64_t delivery_expired(const struct delivery *delivery, uint64_t from, uint64_t to);

/* delivery_rows.c: batches and notes, in memory and in the database. */
struct batch *delivery_rows_add(struct delivery *delivery, const struct frozen *frozen);
void delivery_rows_put(struct batch *batch);
void delivery_rows_gone(struct batch *batch);
struct note *delivery_rows_note(const struct delivery *delivery, enum note_type type,
                                const struct forward_record *record);
void delivery_rows_note_add(struct delivery *delivery, struct note *note);
void delivery_rows_notes_free(struct note **notes);
bool delivery_rows_are_dirty(const struct delivery *delivery);
int delivery_rows_write(struct delivery *delivery, struct err *err) MUST_USE;
void delivery_rows_committed(struct delivery *delivery);
int delivery_rows_load(struct delivery *delivery, struct err *err) MUST_USE;
void delivery_rows_free(struct delivery *delivery);
uint32_t delivery_rows_only(const struct frozen *frozen, uint32_t i);
uint32_t delivery_rows_only_count(const struct frozen *frozen);
/* The LSNs at offsets[0..count) from the first LSN of batch become its only; base_lsn its new first. */
void delivery_rows_set_only(struct batch *batch, const uint32_t *offsets, uint32_t count,
                            uint32_t base);

/* delivery_read.c: records of a range into an encoder. */
struct slot *delivery_read_slot(struct delivery *delivery);
void delivery_read_slot_give(struct slot *slot);
void delivery_read_begin(struct reading *reading, struct slot *slot, int64_t frozen_at_ns);
/* A bounded piece. 1: there may be more at once, 0: full, ended, or nothing more now (is_full says the first). */
int delivery_read_step(struct reading *reading, uint64_t now_ns);
/* Forgets what it has read; the next begin goes on at lsn. */
void delivery_read_reset(struct reading *reading, uint64_t lsn);
void delivery_read_free(struct reading *reading);
/* encoder_end, key, digest, compression, target: batch and slot are what is sent: 0. 1: these are not the bytes that the manifest
 * names; nothing of the batch has changed. */
int delivery_read_finish(struct batch *batch, struct err *err) MUST_USE;
/* The batch will not be sent to the place it has in a file. */
void delivery_read_target_drop(struct batch *batch);
/* One record of the log, as it is. 1 found, 0 it cannot be read (expired, damaged). */
int delivery_read_records(struct delivery *delivery, uint64_t first, uint64_t last,
                          scan_take_fn take, void *context);

/* delivery_lanes.c */
void delivery_lanes_open(struct delivery *delivery);
/* True: something was read or frozen. */
bool delivery_lanes_work(struct delivery *delivery, uint64_t now_ns, uint64_t until_ns);
uint64_t delivery_lanes_due_ns(const struct delivery *delivery);
void delivery_lanes_split(struct delivery *delivery);
/* While there are two lanes, neither may take every slot. */
bool delivery_lanes_may_take_slot(const struct delivery *delivery, enum lane_id id);

/* delivery_load.c: batches whose body is not in memory. */
bool delivery_load_work(struct delivery *delivery, uint64_t now_ns, uint64_t until_ns);
/* The body is in the batch's slot: is it what the manifest names? */
void delivery_load_finish(struct batch *batch);
void delivery_load_failed(struct batch *batch, const struct err *err);
/* The batch has no manifest and no body any more: it is read and frozen anew, under another key. */
void delivery_load_unfreeze(struct batch *batch);
uint64_t delivery_load_due_ns(const struct delivery *delivery);

/* delivery_segments.c: whole files. */
bool delivery_segments_work(struct delivery *delivery, uint64_t now_ns, uint64_t until_ns);
/* Begins to read the file of a batch into its slot; delivery_segments_work goes on. */
void delivery_segments_load(struct batch *batch);

/* delivery_verdict.c */
void delivery_verdict_on_answer(void *context, const struct upstream_answer *answer);
void delivery_verdict_take(struct delivery *delivery, uint64_t now_ns);

/* delivery_cut.c: streams. */
struct ulid delivery_stream(const struct delivery *delivery, uint64_t lsn);
/* The smallest LSN above lsn that no batch with lsn may hold; UINT64_MAX: none. */
uint64_t delivery_border(const struct delivery *delivery, uint64_t lsn);
/* After position and batches were loaded: takes back what LSNs do not mean any more. is_new: the sink has no place yet. */
int delivery_cut(struct delivery *delivery, bool is_new, struct err *err) MUST_USE;

/* delivery_send.c */
void delivery_send_all(struct delivery *delivery, uint64_t now_ns);
uint64_t delivery_send_due_ns(const struct delivery *delivery);

#endif
