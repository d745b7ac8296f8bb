#include "api/metrics.h"

#include "api/alerts.h"
#include "api/ops.h"
#include "api/query_pool.h"
#include "api/runs.h"
#include "api/shard.h"
#include "api/upstream_metrics.h"

#include <stdatomic.h>

/* Every load in this file is relaxed: each word is a statistic, and a scrape is a moment that
 * nobody can name. */
#define LOAD(word) ((unsigned long long)atomic_load_explicit(&(word), memory_order_relaxed))

static void family(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void single(struct buf *out, const char *name, const char *type, const char *help,
                   unsigned long long value)
{
    family(out, name, type, help);
    buf_printf(out, "%s %llu\n", name, value);
}

static void write_records(struct buf *out, const struct counters *sum)
{
    single(out, "sluice_records_received_total", "counter", "Records taken out of request bodies.",
           sum->received);
    single(out, "sluice_records_durable_total", "counter", "Records on stable storage.",
           sum->durable);
    single(out, "sluice_records_duplicate_total", "counter",
           "Records already stored under the same key.", sum->duplicate);
    family(out, "sluice_records_rejected_total", "counter",
           "Records refused for what they are, by cause.");
    for (unsigned i = 0; i < REJECT_CAUSES; i++) {
        buf_printf(out, "sluice_records_rejected_total{cause=\"%s\"} %llu\n", reject_cause_name(i),
                   (unsigned long long)sum->rejected[i]);
    }
    family(out, "sluice_records_shed_total", "counter",
           "Good records refused for lack of room or disk, by cause.");
    for (unsigned i = 0; i < SHED_CAUSES; i++) {
        buf_printf(out, "sluice_records_shed_total{cause=\"%s\"} %llu\n", shed_cause_name(i),
                   (unsigned long long)sum->shed[i]);
    }
    single(out, "sluice_records_pending", "gauge", "Records in a ring or a write, not durable yet.",
           sum->pending);
    single(out, "sluice_body_bytes_total", "counter", "Bytes of accepted request bodies, decoded.",
           sum->body_bytes);
}

static void write_requests(struct buf *out, const struct counters *sum)
{
    single(out, "sluice_ingest_requests_total", "counter", "Requests to ingest routes.",
           sum->requests_received);
    single(out, "sluice_ingest_requests_accepted_total", "counter", "Answered 202.",
           sum->requests_accepted);
    single(out, "sluice_ingest_requests_rejected_total", "counter",
           "Answered 4xx for what they are.", sum->requests_rejected);
    single(out, "sluice_ingest_requests_duplicate_total", "counter",
           "Answered from an earlier receipt.", sum->requests_duplicate);
    single(out, "sluice_ingest_requests_memory_total", "counter",
           "Acknowledged from memory on request.", sum->requests_memory);
    family(out, "sluice_ingest_requests_shed_total", "counter", "Answered 429 or 503, by cause.");
    for (unsigned i = 0; i < SHED_CAUSES; i++) {
        buf_printf(out, "sluice_ingest_requests_shed_total{cause=\"%s\"} %llu\n",
                   shed_cause_name(i), (unsigned long long)sum->requests_shed[i]);
    }
    family(out, "sluice_ingest_requests_refused_total", "counter",
           "Answered 401, 403 or 429 for who asks, by cause.");
    for (unsigned i = 0; i < REFUSE_CAUSES; i++) {
        buf_printf(out, "sluice_ingest_requests_refused_total{cause=\"%s\"} %llu\n",
                   refuse_cause_name(i), (unsigned long long)sum->requests_refused[i]);
    }
    single(out, "sluice_other_requests_total", "counter", "Requests to routes that do not ingest.",
           sum->requests_other);
    family(out, "sluice_other_requests_refused_total", "counter",
           "Those of them answered 401, 403 or 429, by cause.");
    for (unsigned i = 0; i < REFUSE_CAUSES; i++) {
        buf_printf(out, "sluice_other_requests_refused_total{cause=\"%s\"} %llu\n",
                   refuse_cause_name(i), (unsigned long long)sum->other_refused[i]);
    }
    single(out, "sluice_ingest_requests_pending", "gauge", "Requests that wait for the disk.",
           sum->requests_pending);
}

static void write_store(struct buf *out, const struct store_status *status, uint64_t now_ns)
{
    unsigned long long oldest = LOAD(status->oldest_undurable_at_ns);
    single(out, "sluice_store_state", "gauge", "0 ok, 1 shed, 2 read-only, 3 stopping.",
           LOAD(status->state));
    single(out, "sluice_store_retention_stuck", "gauge",
           "1: the log is over store.retention_bytes and its oldest segment may not be removed.",
           LOAD(status->is_retention_stuck));
    single(out, "sluice_store_durable_lsn", "gauge", "Largest LSN on stable storage.",
           LOAD(status->durable_lsn));
    single(out, "sluice_store_batches_total", "counter", "Batches made durable.",
           LOAD(status->batches));
    single(out, "sluice_store_marks_total", "counter",
           "Empty batches that witness durability when idle.", LOAD(status->marks));
    single(out, "sluice_store_records_total", "counter", "Records made durable by the writer.",
           LOAD(status->records));
    single(out, "sluice_store_payload_bytes_total", "counter", "Record bytes made durable.",
           LOAD(status->payload_bytes));
    single(out, "sluice_store_written_bytes_total", "counter",
           "Bytes written to segments, with headers and padding.", LOAD(status->written_bytes));
    single(out, "sluice_store_duplicates_total", "counter", "Records dropped by the processed set.",
           LOAD(status->duplicates));
    single(out, "sluice_store_write_errors_total", "counter", "Durable writes that failed.",
           LOAD(status->write_errors));
    single(out, "sluice_store_prepare_errors_total", "counter",
           "Segments that could not be prepared.", LOAD(status->prepare_errors));
    single(out, "sluice_store_segments_sealed_total", "counter", "Segments closed for writing.",
           LOAD(status->segments_sealed));
    single(out, "sluice_store_spare_segments", "gauge", "Prepared segments waiting.",
           LOAD(status->spares));
    single(out, "sluice_store_dedup_entries", "gauge", "Keys in the processed set.",
           LOAD(status->dedup_entries));
    single(out, "sluice_store_log_bytes", "gauge", "Bytes of segment files.",
           LOAD(status->log_bytes));
    single(out, "sluice_store_free_bytes", "gauge", "Free bytes of the file system.",
           LOAD(status->free_bytes));
    single(out, "sluice_store_drain_bytes_per_second", "gauge",
           "Measured rate at which rings empty.", LOAD(status->drain_bytes_per_s));
    family(out, "sluice_store_oldest_undurable_seconds", "gauge",
           "Age of the oldest record that is not durable.");
    buf_printf(out, "sluice_store_oldest_undurable_seconds %.6f\n",
               oldest == 0 || oldest > now_ns ? 0.0 : (double)(now_ns - oldest) / 1e9);
    family(out, "sluice_commit_seconds", "histogram", "Submit of a batch to its completion.");
    hist_write_prometheus(out, "sluice_commit_seconds", "", &status->commit_latency);
}

static void write_archive(struct buf *out, const struct store_status *status)
{
    single(out, "sluice_store_first_lsn", "gauge", "LSN of the oldest record kept.",
           LOAD(status->first_lsn));
    single(out, "sluice_archive_sealed_total", "counter", "Segments sealed.", LOAD(status->sealed));
    single(out, "sluice_archive_compacted_total", "counter", "Segments rewritten compressed.",
           LOAD(status->compacted));
    single(out, "sluice_archive_compact_read_bytes_total", "counter", "Bytes that compaction read.",
           LOAD(status->compact_read_bytes));
    single(out, "sluice_archive_compact_written_bytes_total", "counter",
           "Bytes that compaction wrote.", LOAD(status->compact_written_bytes));
    single(out, "sluice_archive_expired_segments_total", "counter",
           "Segments removed by retention.", LOAD(status->expired_segments));
    single(out, "sluice_archive_expired_records_total", "counter", "Records removed by retention.",
           LOAD(status->expired_records));
    single(out, "sluice_archive_expired_bytes_total", "counter", "Bytes removed by retention.",
           LOAD(status->expired_bytes));
    single(out, "sluice_archive_expired_unforwarded_total", "counter",
           "Records removed by retention that a sink had not passed.",
           LOAD(status->expired_unforwarded));
    single(out, "sluice_archive_errors_total", "counter", "Steps that failed and are tried again.",
           LOAD(status->archive_errors));
    single(out, "sluice_archive_damaged_segments", "gauge", "Segments kept raw because of damage.",
           LOAD(status->damaged_segments));
}

static void write_alerts(struct buf *out, const struct alerts *alerts)
{
    static const char *const subjects[] = {[ALERT_LOG] = "log", [ALERT_DISK] = "disk"};
    family(out, "sluice_disk_usage_ratio", "gauge",
           "Log against store.retention_bytes, file system of the data against its size.");
    for (unsigned i = 0; i < ALERT_SUBJECTS; i++) {
        buf_printf(out, "sluice_disk_usage_ratio{subject=\"%s\"} %.4f\n", subjects[i],
                   (double)LOAD(alerts->percent_x100[i]) / 1e4);
    }
    single(out, "sluice_disk_alerts_total", "counter", "Alert levels crossed, up or down.",
           LOAD(alerts->crossings));
}

static void write_queries(struct buf *out, const struct query_counts *counts)
{
    single(out, "sluice_queries_total", "counter", "Queries and tails begun.",
           LOAD(counts->started));
    single(out, "sluice_queries_finished_total", "counter", "Those of them that have ended.",
           LOAD(counts->finished));
    single(out, "sluice_queries_cancelled_total", "counter",
           "Those whose client left or was given up.", LOAD(counts->cancelled));
    single(out, "sluice_queries_refused_total", "counter",
           "Refused for what they ask or for lack of a place.", LOAD(counts->refused));
    single(out, "sluice_queries_active", "gauge", "Queries and tails under way.",
           LOAD(counts->active));
    single(out, "sluice_tails_active", "gauge", "Tails open.", LOAD(counts->tails));
    single(out, "sluice_query_records_total", "counter", "Records found and shown.",
           LOAD(counts->records));
    single(out, "sluice_query_scanned_bytes_total", "counter", "Bytes of records looked at.",
           LOAD(counts->scanned_bytes));
    single(out, "sluice_query_skipped_bytes_total", "counter",
           "Bytes that an index showed to hold no match.", LOAD(counts->skipped_bytes));
    single(out, "sluice_tail_gaps_total", "counter",
           "Times a tail was told that it missed something.", LOAD(counts->gaps));
}

struct server_row {
    const char *name;
    const char *type;
    const char *help;
    size_t offset;
};

#define ROW(name, type, field, help)                                                               \
    {                                                                                              \
        "sluice_http_" name, type, help, offsetof(struct server_stats, field)                      \
    }

static const struct server_row server_rows[] = {
    ROW("connections_accepted_total", "counter", accepted, "Connections accepted."),
    ROW("connections_refused_total", "counter", refused_connections,
        "Connections over the limit, answered 503."),
    ROW("connections_open", "gauge", open_connections, "Connections open."),
    ROW("accept_errors_total", "counter", accept_errors, "Failed accepts."),
    ROW("requests_total", "counter", requests, "Complete requests."),
    ROW("answers_total", "counter", answers, "Answers given."),
    ROW("received_bytes_total", "counter", received_bytes, "Bytes received."),
    ROW("answer_bytes_total", "counter", answer_bytes, "Bytes of answers."),
    ROW("recv_starved_total", "counter", recv_starved,
        "Receives ended because the buffer ring was empty."),
    ROW("timeouts_head_total", "counter", timeouts_head, "408: the head came too slowly."),
    ROW("timeouts_body_total", "counter", timeouts_body, "408: the body came too slowly."),
    ROW("timeouts_idle_total", "counter", timeouts_idle, "Idle keep-alive connections closed."),
    ROW("timeouts_send_total", "counter", timeouts_send,
        "Closed: the peer did not read its answers."),
    ROW("resets_total", "counter", resets, "Connections reset by the peer."),
    ROW("ring_enters_total", "counter", ring_enters, "io_uring_enter calls."),
    ROW("completions_total", "counter", cqes, "io_uring completions."),
    ROW("completion_overflows_total", "counter", cq_overflows, "Completion queue overflows."),
};

static void write_servers(struct buf *out, struct shard_set *set)
{
    for (size_t r = 0; r < ARRAY_COUNT(server_rows); r++) {
        const struct server_row *row = &server_rows[r];
        family(out, row->name, row->type, row->help);
        for (unsigned i = 0; i < set->count; i++) {
            const char *stats = (const void *)&set->shards[i].server_stats;
            const _Atomic uint64_t *word = (const void *)(stats + row->offset);
            buf_printf(out, "%s{shard=\"%u\"} %llu\n", row->name, i, LOAD(*word));
        }
    }
}

static void write_faults(struct buf *out, struct shard_set *set)
{
    family(out, "sluice_http_faults_total", "counter",
           "Errors answered by the HTTP layer itself, by status.");
    for (unsigned i = 0; i < set->count; i++) {
        const struct server_stats *stats = &set->shards[i].server_stats;
        for (unsigned status = 400; status < 600; status++) {
            unsigned long long count = LOAD(stats->faults[status]);
            if (count != 0) {
                buf_printf(out, "sluice_http_faults_total{shard=\"%u\",status=\"%u\"} %llu\n", i,
                           status, count);
            }
        }
    }
}

/* One histogram of each shard; offset: where it is in struct shard. */
static void write_latency(struct buf *out, struct shard_set *set, const char *name,
                          const char *help, size_t offset)
{
    family(out, name, "histogram", help);
    for (unsigned i = 0; i < set->count; i++) {
        char labels[32];
        struct buf text;
        buf_init(&text, labels, sizeof labels - 1);
        buf_printf(&text, "shard=\"%u\"", i);
        labels[text.bytes] = 0;
        const char *shard = (const void *)&set->shards[i];
        hist_write_prometheus(out, name, labels, (const void *)(shard + offset));
    }
}

static void write_latencies(struct buf *out, struct shard_set *set)
{
    write_latency(out, set, "sluice_parse_seconds",
                  "Validating one request body (one in 16 is timed).",
                  offsetof(struct shard, parse_latency));
    write_latency(out, set, "sluice_ack_seconds", "Request complete to its answer queued.",
                  offsetof(struct shard, ack_latency));
}

void metrics_write(struct buf *out, struct shard_set *set, uint64_t now_ns, int64_t real_ns)
{
    struct counters sum;
    ledger_sum(set, &sum);
    family(out, "sluice_build_info", "gauge", "Version of this process.");
    buf_printf(out, "sluice_build_info{version=\"%s\"} 1\n", SLUICE_VERSION);
    family(out, "sluice_uptime_seconds", "gauge", "Since the process began to serve.");
    buf_printf(out, "sluice_uptime_seconds %.3f\n", (double)(now_ns - set->started_at_ns) / 1e9);
    single(out, "sluice_healthy", "gauge", "1 when /healthcheck says ok.",
           health_reason(set, now_ns) == NULL);
    write_records(out, &sum);
    write_requests(out, &sum);
    single(out, "sluice_ledger_faults_total", "counter",
           "Times the ledger did not balance: a bug in Sluice.", LOAD(set->ledger_faults));
    struct rate_counts rate = rate_limit_counts(set->rate_limit);
    single(out, "sluice_rate_limit_addresses", "gauge", "Client addresses remembered.",
           rate.addresses);
    single(out, "sluice_rate_limit_evicted_total", "counter",
           "Addresses forgotten early for lack of places.", rate.evicted);
    write_store(out, set->status, now_ns);
    write_archive(out, set->status);
    if (set->alerts != NULL) {
        write_alerts(out, set->alerts);
    }
    upstream_metrics_write(out, set->upstream, real_ns);
    runs_metrics_write(out, set->runs, now_ns, LOAD(set->status->durable_lsn));
    write_queries(out, query_pool_counts(set->query_pool));
    write_servers(out, set);
    write_faults(out, set);
    write_latencies(out, set);
}
