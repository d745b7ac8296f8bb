/*
 * origins: which records of which other nodes are in this log, so that what another Sluice sends
 * (META_ORIGIN, format.h) is stored exactly once, for ever. Owned by the writer's thread (the start
 * fills it before); one buffer passes between writer and keeper.
 *
 * Two sets. `known` is what the writer decides by: everything in a batch, durable or not. `settled`
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
 * Full (ORIGINS_..._MAX): requests are refused, nothing is forgotten. A log that could not be read
 * to its end at start: all requests of other nodes are refused (is_blind), everything else goes on.
 *
 * FILE, little endian:
 *   00  8  magic           "SLUICORG"
 *   08  2  version         1
 *   10  2  header_bytes    64
 *   12  4  node_count
 *   16 16  node            this node's own
 *   32  8  lsn             everything up to this LSN of this log is in it
 *   40  8  body_bytes      origin_set.h
 *   48  8  reserved        0
 *   56  4  body_crc        CRC32C
 *   60  4  header_crc      CRC32C of bytes 00-59
 *
 * Edges: R23/A23 hands a full buffer to the keeper; R24/A24 gives it back.
 */
#ifndef STORE_ORIGINS_H
#define STORE_ORIGINS_H

#include "store/file_io.h"
#include "store/format.h"
#include "store/origin_set.h"

#include <stdatomic.h>

#define ORIGINS_NODES_MAX     1024u
#define ORIGINS_INTERVALS_MAX 4096u  /* of one node */
#define ORIGINS_ALL_MAX       65536u /* intervals: 1 MiB of file */
#define ORIGINS_PENDING_MAX   16384u /* power of two */
#define ORIGINS_SAVE_NS       (2 * NS_S)
#define ORIGINS_FILE          "origins"

struct origins;

struct origins_options {
    struct origin_limits limits;
    struct ulid node;    /* our own */
    uint64_t last_lsn;   /* where the log ends */
    uint64_t origin_lsn; /* of its newest record of another node; 0: none */
};

/* Memory, then what file and log tell. -ENOMEM; else 0, whatever file and log look like. */
int origins_open(struct origins **origins, struct file_io *io,
                 const struct origins_options *options, struct err *err) MUST_USE;
void origins_close(struct origins *origins);

/* ---- the writer ---- */

/* Room for a request of SUBMIT_ORIGIN_RUNS_MAX runs until something is settled? */
bool origins_has_pending_room(const struct origins *origins);
/* The log was not read to its end: what is stored cannot be known. */
bool origins_is_blind(const struct origins *origins);
const struct origin_set *origins_known(const struct origins *origins);
/* first..last of node, carried by the record lsn of our log, which is in a batch now. LSNs never
 * decrease; the set must have room. */
void origins_add(struct origins *origins, const struct ulid *node, uint64_t first, uint64_t last,
                 uint64_t lsn);
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
