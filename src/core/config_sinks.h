/*
 * config_sinks: the parts of the configuration that come several times under names of the operator's
 * choice: [sink.NAME], where records go, and [poller.NAME], a database that metrics are fetched from.
 * Read, judged, printed and listed with the rest (config.h): "sink.NAME.key" on the command line and
 * SLUICE_SINK_NAME_KEY in the environment say the same as the file. NAME: 1..32 of a-z 0-9 and '-', a
 * letter or digit at both ends (in a variable: upper case, '_' for '-'; the longest key that the variable
 * ends with is the key). The rows, with bounds and the types that have a key, are in config_sink_table.c.
 *
 * What a loaded configuration promises: type is not SINK_NONE; url is a good address without credentials
 * (all but file), path is set and its sink's own (file); kinds are bits that the type can take, never 0;
 * source is set where format is object; aws_service where aws_region is and the type has one; no text has
 * control characters; headers parse and name nothing that is Sluice's or a secret. Keys that the type does
 * not have keep their defaults.
 *
 * Secrets are never values of keys: each is a file of its own, mode 0600, read by who uses it.
 * Changes take effect at the next start; a reload names them as ignored.
 */
#ifndef CORE_CONFIG_SINKS_H
#define CORE_CONFIG_SINKS_H

#include "core/base.h"

#define CONFIG_SINKS_MAX      16
#define CONFIG_POLLERS_MAX    8
#define CONFIG_SINK_NAME_MAX  32
#define CONFIG_SINK_TEXT      256
#define CONFIG_SINK_TEXT_LONG 1024

enum sink_type {
    SINK_NONE = 0,
    SINK_HTTP,
    SINK_OPENSEARCH,
    SINK_TIMESTREAM,
    SINK_S3,
    SINK_CLICKHOUSE,
    SINK_INFLUX,
    SINK_SLUICE,
    SINK_FILE,
};

enum sink_format { /* of http and file */
    SINK_NDJSON = 0,
    SINK_ARRAY,
    SINK_OBJECT, /* {batch_id, source, sent_at, logs, metrics}: for an API Gateway */
};

enum sink_record {        /* of http and file */
    SINK_RECORD_META = 0, /* {"id","lsn","kind","received_at","record":{...as sent}} */
    SINK_RECORD_RAW,      /* as sent */
};

enum sink_compression {
    SINK_IDENTITY = 0,
    SINK_GZIP,
    SINK_ZSTD,
};

enum sink_from {         /* where a sink that is new begins */
    SINK_FROM_BEGIN = 0, /* at the oldest record there is */
    SINK_FROM_END,       /* at the next that comes */
};

/* Empty texts and zeroes: not set, unless a default is named. */
struct config_sink {
    char name[CONFIG_SINK_NAME_MAX + 1];
    enum sink_type type;
    char url[CONFIG_SINK_TEXT_LONG]; /* all but file: http:// or https:// */
    char path[CONFIG_SINK_TEXT];     /* file: the file that is written */
    uint32_t kinds; /* kinds = log,metric,event,run,gpu | all: bit (1 << enum record_kind of
                                        store/format.h: log 1, metric 2, event 3, run 4, gpu 5); default: all
                                        that the type can take */
    enum sink_from from;
    enum sink_format format;
    enum sink_record record;
    enum sink_compression compression;
    uint64_t batch_bytes;   /* 1M: of an uncompressed request body; one larger record goes alone */
    uint64_t batch_records; /* 5000 */
    uint64_t linger_ns;     /* 200ms: how long a record waits for company */
    uint64_t connections;   /* 4: requests in flight at one time, 1..64 */
    uint64_t rate;          /* 0: no limit; else bytes a second of backlog */
    uint64_t timeout_ns;    /* 30s: of a request */
    uint64_t connect_timeout_ns; /* 5s */
    uint64_t backoff_min_ns;     /* 250ms */
    uint64_t backoff_max_ns;     /* 60s */
    uint64_t breaker_failures;   /* 5: in a row, then the breaker opens */
    uint64_t pause_retry_ns;     /* 60s: after 401, 403, 404 */
    /* who we are to the upstream */
    char source[CONFIG_SINK_TEXT];       /* of format object; default: the host's name */
    char headers[CONFIG_SINK_TEXT_LONG]; /* "A: b | C: d", no secrets */
    char bearer_file[CONFIG_SINK_TEXT];  /* Authorization: Bearer <its first line> */
    char api_key_file[CONFIG_SINK_TEXT]; /* x-api-key: <its first line> */
    char user[CONFIG_SINK_TEXT];         /* basic authentication with password_file */
    char password_file[CONFIG_SINK_TEXT];
    char ca_file[CONFIG_SINK_TEXT];   /* default: the system's */
    char cert_file[CONFIG_SINK_TEXT]; /* client certificate and key: mTLS */
    char key_file[CONFIG_SINK_TEXT];
    bool verify;          /* true; false is a warning at start */
    char aws_region[64];  /* set: requests are signed, AWS Signature Version 4 */
    char aws_service[64]; /* default by type: execute-api, es, timestream, s3 */
    char aws_credentials_file
        [CONFIG_SINK_TEXT]; /* ID and secret (and token) on lines of their own; default: AWS_ACCESS_KEY_ID ... */
    /* by type */
    char index
        [CONFIG_SINK_TEXT]; /* opensearch: "sluice-{kind}-%Y.%m.%d" (strftime of the event time, UTC) */
    char database[CONFIG_SINK_TEXT]; /* timestream, clickhouse, influx */
    char table[CONFIG_SINK_TEXT];    /* timestream, clickhouse */
    char prefix[CONFIG_SINK_TEXT];   /* s3: before the object's name */
    uint64_t rotate_bytes;           /* file: 64M */
    uint64_t rotate_age_ns;          /* file: 24h */
    uint64_t rotate_keep;            /* file: 0: all rotated files are kept */
};

enum poller_layout {
    POLLER_NARROW = 0, /* time, agent_step, metric, value */
    POLLER_WIDE,       /* time, agent_step, and a column for each metric */
};

struct config_poller {
    char name[CONFIG_SINK_NAME_MAX + 1];
    char conninfo
        [CONFIG_SINK_TEXT_LONG];  /* libpq's, without the password (passfile=, or PGPASSFILE) */
    char table[CONFIG_SINK_TEXT]; /* "schema.table"; each part an identifier */
    enum poller_layout layout;
    char time_column[64];                /* time */
    char step_column[64];                /* agent_step; "": there is none */
    char metric_column[64];              /* narrow: metric */
    char value_column[64];               /* narrow: value */
    char columns[CONFIG_SINK_TEXT_LONG]; /* wide: which columns; "": all numeric ones */
    char service[CONFIG_SINK_TEXT];      /* of the records; default: the poller's name */
    uint64_t interval_ns;                /* 5s: between two looks when all rows are in */
    uint64_t rows_max;                   /* 1000: of one query */
    uint64_t statement_timeout_ns;       /* 5s */
    uint64_t
        settle_ns; /* 5s: rows younger than this are left for later: a row that is committed later than this after its
                           time may find the mark behind it, and is not seen */
};

#endif
