/*
 * config_table: private to config_*.c. One row per key; everything else (reading, checking,
 * printing, reloading) walks this table, so that a new key is one new row and one new field.
 */
#ifndef CORE_CONFIG_TABLE_H
#define CORE_CONFIG_TABLE_H

#include "core/config.h"

/* How the text of a value becomes bytes at `offset`. */
enum config_type {
    CONFIG_BOOL,       /* bool */
    CONFIG_COUNT,      /* uint64_t, plain digits */
    CONFIG_COUNT_AUTO, /* the same, or "auto" = 0 */
    CONFIG_SIZE,       /* uint64_t bytes */
    CONFIG_TIME,       /* uint64_t ns */
    CONFIG_RATIO,      /* double; min and max in millionths */
    CONFIG_TEXT,       /* char[CONFIG_TEXT_BYTES] */
    CONFIG_WORD,       /* unsigned, or an enum of that size: index into words */
    CONFIG_WORD_BOOL,  /* bool: words[0] is false, words[1] is true */
    CONFIG_LISTEN,     /* listen and listen_count */
    CONFIG_LINE,       /* char[max + 1]: one line as a file can hold it, blanks around it dropped */
    CONFIG_KINDS,      /* uint32_t: bits of record kinds; "all" = 0 */
};

#define CONFIG_WORDS_MAX 10
#define CONFIG_KEY_BYTES 40 /* longest name, with its NUL */
#define CONFIG_VALUE_BYTES                                                                         \
    4352 /* CONFIG_LISTEN_MAX texts with commas: the longest value there is */
#define CONFIG_PROBLEM_SHOWN 96 /* bytes of a wrong value that an error repeats */
#define CONFIG_REASON_BYTES  320

struct config_key {
    const char *name;
    enum config_type type;
    size_t offset;
    const char *initial;
    uint64_t min;
    uint64_t max;
    const char *words[CONFIG_WORDS_MAX]; /* "" is a word that nobody can write */
    bool is_reloadable;
    const char *joint;   /* not NULL: in a file the key may come again; lines are joined by it */
    uint32_t sink_types; /* of a sink: the types that have the key, bits of enum sink_type */
    const char *help;
};

extern const struct config_key config_table[];
extern const size_t config_table_count;

/* The row of a name, or NULL. Pure. */
const struct config_key *config_table_find(const char *name);
/* The known name that is nearest to a wrong one, or NULL when nothing is near. Pure. */
const char *config_table_nearest(const char *name);
/* "server.max_body" -> "SLUICE_SERVER_MAX_BODY"; out holds CONFIG_VARIABLE_BYTES. Pure. */
#define CONFIG_VARIABLE_BYTES (CONFIG_KEY_BYTES + 8)
void config_table_variable(char *out, const struct config_key *key);

/* Levenshtein distance; what is longer than CONFIG_KEY_BYTES is cut. Pure. */
size_t config_table_distance(const char *a, const char *b);

/* base is what the offsets of the row's table count from: struct config, struct config_sink, struct
 * config_poller.
 *
 * Parses text into base. On -EINVAL the field is unchanged and reason says what is wrong with the
 * value. Pure. */
int config_value_set(void *base, const struct config_key *key, const char *text,
                     struct err *reason) MUST_USE;
/* The value in the form that config_value_set reads. Pure. */
void config_value_put(struct buf *out, const void *base, const struct config_key *key);
bool config_value_equal(const void *a, const void *b, const struct config_key *key);
void config_value_copy(void *to, const void *from, const struct config_key *key);

/* What one load gathers: the values, and for each row where its value came from. */
#define CONFIG_KEYS_MAX     64
#define CONFIG_ORIGIN_BYTES 304

/* A family is a kind of section that comes several times under names of the operator's choice. */
enum {
    CONFIG_FAMILY_SINK = 0,
    CONFIG_FAMILY_POLLER,
    CONFIG_FAMILY_COUNT,
};
#define CONFIG_ITEMS_MAX     16 /* of one family */
#define CONFIG_ITEM_KEYS_MAX 40

struct config_family {
    const char *name;     /* "sink" */
    const char *variable; /* "SLUICE_SINK_" */
    const struct config_key *keys;
    size_t key_count;
    size_t items_offset; /* in struct config; each item begins with its name */
    size_t item_bytes;
    size_t count_offset;
    unsigned items_max;
};
extern const struct config_family config_families[CONFIG_FAMILY_COUNT];

/* What a load knows of one item besides its values; a parallel to the array in struct config. */
struct config_item {
    char origin[CONFIG_ORIGIN_BYTES];                        /* where it was first named */
    char origins[CONFIG_ITEM_KEYS_MAX][CONFIG_ORIGIN_BYTES]; /* "" : default */
    bool is_rejected[CONFIG_ITEM_KEYS_MAX];
    unsigned line_of_key[CONFIG_ITEM_KEYS_MAX]; /* in the file; 0: not there */
};

struct config_load {
    struct config_item items[CONFIG_FAMILY_COUNT][CONFIG_ITEMS_MAX];
    bool is_full_said[CONFIG_FAMILY_COUNT];
    char bad_name[96]; /* the last name of an item that was refused: said once, not for each key */
    struct config *config;
    struct config_problems *problems;
    char origins[CONFIG_KEYS_MAX][CONFIG_ORIGIN_BYTES]; /* "" : default */
    bool is_rejected[CONFIG_KEYS_MAX]; /* some source gave a value that was not taken */
    bool has_token;                    /* TELEMETRY_API_AUTH_TOKEN is set */
};

void config_problem(struct config_load *load, const char *format, ...) PRINTF_LIKE(2, 3);
void config_warning(struct config_load *load, const char *format, ...) PRINTF_LIKE(2, 3);
/* False when some source's value of the key was not taken, so that what the others say of it would
 * mislead. */
bool config_is_trusted(const struct config_load *load, const char *key_name);
const char *config_origin(const struct config_load *load, const char *key_name);
/* A value from a source: sets it and its origin, or adds the problem. An unknown name is a problem
 * too. */
void config_offer(struct config_load *load, const char *name, const char *text, const char *origin);
/* Defaults, then each source in turn; no relations between keys yet. */
void config_gather(struct config_load *load, const struct config_sources *sources);
void config_read_file(struct config_load *load, const char *path);
void config_read_environment(struct config_load *load, char *const *environment);
/* Relations between keys, once all sources are in. */
void config_check(struct config_load *load);
/* The same for sinks and pollers; fills what their defaults leave to be derived. config_sink_check.c,
 * config_poller_check.c */
void config_check_sinks(struct config_load *load);
void config_check_pollers(struct config_load *load);

/* config_family.c. The family that a name belongs to ("sink.lake.url", and "sink.lake" of a section),
 * or NULL. Pure. */
const struct config_family *config_family_of(const char *dotted);
/* The same of a variable ("SLUICE_SINK_LAKE_URL"). Pure. */
const struct config_family *config_family_of_variable(const char *variable);
/* The row of a key of a family ("url"), or NULL. Pure. */
const struct config_key *config_family_key(const struct config_family *family, const char *key);
size_t config_family_index(const struct config_family *family); /* in config_families */
unsigned config_family_count(const struct config_family *family, const struct config *config);
/* Item i; its name is its first field. */
const char *config_family_item(const struct config_family *family, const struct config *config,
                               unsigned i);
struct config_item *config_family_load(const struct config_family *family, struct config_load *load,
                                       unsigned i);
/* A section of a file names an item, which is there from then on, with its defaults. */
void config_family_touch(struct config_load *load, const struct config_family *family,
                         const char *dotted, const char *origin);
/* line: of the file, 0 for other sources. As config_offer; a key twice in a file is a problem. */
void config_family_offer(struct config_load *load, const struct config_family *family,
                         const char *dotted, const char *text, const char *origin, unsigned line);
/* SLUICE_SINK_NAME_KEY: the longest key that the variable ends with is the key, the rest is the name. */
void config_family_offer_variable(struct config_load *load, const struct config_family *family,
                                  const char *variable, const char *text);
/* Names each difference in ignored: "sink.lake.url", "sink.lake (new)", "sink.lake (gone)". */
void config_family_differences(const struct config_family *family, const struct config *running,
                               const struct config *fresh, struct buf *ignored);

/* config_item.c. "sluice.conf:3: sink.lake.url: ..."; where the key was set, else where the item was named. */
void config_item_problem(struct config_load *load, const struct config_family *family, unsigned i,
                         const char *key, const char *format, ...) PRINTF_LIKE(5, 6);
void config_item_warning(struct config_load *load, const struct config_family *family, unsigned i,
                         const char *key, const char *format, ...) PRINTF_LIKE(5, 6);
/* Some source gave the key a value; "key =" gives a text that has no default none. */
bool config_item_is_set(const struct config_load *load, const struct config_family *family,
                        unsigned i, const char *key);
/* No source's value of the key was refused. */
bool config_item_is_trusted(const struct config_load *load, const struct config_family *family,
                            unsigned i, const char *key);

/* config_sink_text.c: texts with a grammar. Pure. 0, or -EINVAL with a reason that repeats nothing of
 * the text but header names. */
int config_text_url(const char *url, struct err *reason) MUST_USE;
bool config_text_url_is_loopback(const char *url);
bool config_text_url_is_aws(const char *url);
int config_text_headers(const char *headers, struct err *reason) MUST_USE;
int config_text_index(const char *index, struct err *reason) MUST_USE;
bool config_text_is_timestream_name(const char *text);
bool config_text_is_identifier(const char *text, size_t bytes); /* [A-Za-z_][A-Za-z0-9_]*, <= 63 */
bool config_text_conninfo_has_password(const char *conninfo);

/* config_print.c */
void config_print_ini(struct buf *out, const struct config *config, struct config_load *load);
void config_print_json(struct buf *out, const struct config *config, struct config_load *load);

#endif
