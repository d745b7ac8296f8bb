/*
 * origins: which records of which other nodes are in this log, so that what another Sluice sends
 * (META_ORIGIN, format.h) is stored exactly once, for ever. Owned by the writer's thread (the start
 * fills it before); one buffer passes between writer and keeper.
 *
 * A record is seen when its sender's LSN is in a range that was told (for its kind), or when the record that it was in the
 * beginning (META_FIRST) is here by another way: sent by its first node itself, or passed on by others. The first is
 * exact for ever. What was passed on is remembered record by record: nobody tells what lies between, and gaps (a
 * filter on the way) fill the room. Then the lowest LSNs are forgotten (has_forgotten), so a copy that comes by a second way
 * later than that is stored a second time; it never goes in circles: its way (via) says where it was.
 *
 * Each set is there twice. `known` is what the writer decides by: everything in a batch, durable or not. `settled`
 * is what is durable; the additions between wait in a ring, in the order of LSNs, and are taken back
 * together when their batches are given up.
 *
 * The log is the truth. DIR/origins is a cache of `settled` as of one LSN, written by the keeper at
 * most every ORIGINS_SAVE_NS and at an orderly stop (temporary file, sync, rename, sync of the
 * directory). A start takes it when it is whole and not newer than the log, and reads the log's
 * BATCH_ORIGIN batches behind it; without it the whole log, and only when the log says that it holds
 * such records at all (origin_lsn, format.h). So losing the file costs time and nothing else,
 * except that what expired with old segments is only known by it.
 *
 * Full of what senders told (ORIGINS_..._MAX): requests are refused, nothing is forgotten. A log that could not be read
 * to its end at start: all requests of other nodes are refused (is_blind), everything else goes on.
 *
 * FILE, little endian:
 *   00  8  magic           "SLUICORG"
 *   08  2  version         2 (1: without kinds and what was passed on; is read from the log again)
 *   10  2  header_bytes    64
 *   12  4  node_count      of what senders told
 *   16 16  node            this node's own
 *   32  8  lsn             everything up to this LSN of this log is in it
 *   40  8  body_bytes      origin_set.h: what senders told, then what was passed on
 *   48  4  passed_count    nodes of the latter
 *   52  4  passed_bytes    of body_bytes
 *   56  4  body_crc        CRC32C
 *   60  4  header_crc      CRC32C of bytes 00-59
 *
 * Edges: R23/A23 hands a full buffer to the keeper; R24/A24 gives it back.
 */
#ifndef STORE_ORIGINS_H
#define STORE_ORIGINS_H

#include "store/file_io.h"
#include "store/format.h"
#include "store/lineage.h"
#include "store/origin_set.h"

#include <stdatomic.h>

#define ORIGINS_NODES_MAX     1024u  /* streams: a node and the kinds that it sends */
#define ORIGINS_INTERVALS_MAX 4096u  /* of one of them */
#define ORIGINS_ALL_MAX       65536u /* intervals: 1 MiB of file */
#define ORIGINS_PENDING_MAX   65536u /* power of two */
#define ORIGINS_SAVE_NS       (2 * NS_S)
#define ORIGINS_FILE          "origins"

struct origins;

struct origins_options {
    struct origin_limits limits;
    struct ulid node; /* our own */
    const struct lineage
        *lineage;        /* borrowed: under which names its records went upstream; NULL: its own */
    uint64_t last_lsn;   /* where the log ends */
    uint64_t origin_lsn; /* of its newest record of another node; 0: none */
};

/* The LSN of this log that the file reflects; 0: there is none, it is damaged or another node's. Changes nothing: a witness of
 * how long the log was. */
uint64_t origins_peek(struct file_io *io, const struct ulid *node);
/* Memory, then what file and log tell. -ENOMEM; else 0, whatever file and log look like. */
int origins_open(struct origins **origins, struct file_io *io,
                 const struct origins_options *options, struct err *err) MUST_USE;
void origins_close(struct origins *origins);

/* ---- the writer ---- */

/* Room for a request of SUBMIT_ORIGIN_RUNS_MAX runs of either sort until something is settled? */
bool origins_has_pending_room(const struct origins *origins);
/* The log was not read to its end: what is stored cannot be known. */
bool origins_is_blind(const struct origins *origins);
/* What senders told. */
const struct origin_set *origins_known(const struct origins *origins);
/* Is the record of that kind in the log, or in a batch? first: NULL where the sender had it first. Or is it ours, or has it
 * been here before, on its way. A record that we have lost (lineage.h) is not ours any more: it is stored like any other. */
bool origins_has(const struct origins *origins, const struct origin *origin,
                 const struct first_origin *first, enum record_kind kind);
/* first..last of node and kinds, told by a request whose records are in a batch now, lsn and what follows of our log.
 * LSNs never decrease; the set must have room. */
void origins_add(struct origins *origins, const struct ulid *node, uint32_t kinds, uint64_t first,
                 uint64_t last, uint64_t lsn);
/* Likewise: records that another node than their first has sent. There is always room. */
void origins_pass(struct origins *origins, const struct ulid *node, uint64_t first, uint64_t last,
                  uint64_t lsn);
/* The caller has more of what was passed on than a request may give to remember. */
void origins_forget(struct origins *origins);
/* Has something of what was passed on been forgotten, since the start? */
bool origins_has_forgotten(const struct origins *origins);
/* Everything up to durable_lsn is on stable storage. */
void origins_settle(struct origins *origins, uint64_t durable_lsn);
/* Batches from next_lsn on were given up; everything before is durable. */
void origins_take_back(struct origins *origins, uint64_t next_lsn);
/* Fills the buffer for the keeper when there is something new and the last time is long enough ago.
 */
void origins_offer(struct origins *origins, uint64_t now_ns);

/* ---- the keeper ---- */

/* Writes the file when the buffer is full. Blocking; a failure is told, and tried again later. */
void origins_write(struct origins *origins, struct file_io *io);

/* ---- main, when the threads have ended in order ---- */
void origins_save(struct origins *origins, struct file_io *io);

/* For tests: what is durable. */
const struct origin_set *origins_settled(const struct origins *origins);

#endif
