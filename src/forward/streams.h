/*
 * streams: in which stream (store/lineage.h) a sink stood when its place was written, and what the databases of sinks and replay
 * jobs have seen of the log. In meta of the database, so that a log without lineage leaves no trace:
 *   sink.NAME.stream        ULID; absent: the node's own
 *   quarantine.ID.stream    likewise, of a record in quarantine: its LSN may be another record's by now
 * Same thread and rules as forward_db.h.
 */
#ifndef FORWARD_STREAMS_H
#define FORWARD_STREAMS_H

#include "forward/forward_db.h"
#include "store/lineage.h"

/* stream is untouched where there is none. 1: found, 0: none. */
int streams_sink_get(struct forward_db *db, const char *sink, struct ulid *stream,
                     struct err *err) MUST_USE;
int streams_sink_put(struct forward_db *db, const char *sink, const struct ulid *stream,
                     struct err *err) MUST_USE;
int streams_item_get(struct forward_db *db, uint64_t quarantine_id, struct ulid *stream,
                     struct err *err) MUST_USE;
int streams_item_put(struct forward_db *db, uint64_t quarantine_id, const struct ulid *stream,
                     struct err *err) MUST_USE;

/* For store_options.witness: what any sink, configured or not, and any replay job of data_dir has frozen or delivered and what is
 * still the record that it was. Reads only; another node's database is passed over, one that cannot be read likewise, and said.
 * ERR_CORRUPT: a sink stands in a stream, but there is no lineage: it was removed, and nobody knows what LSNs mean. */
int streams_witness(const char *data_dir, const struct lineage *lineage,
                    struct lineage_witness *witness, struct err *err) MUST_USE;

#endif
