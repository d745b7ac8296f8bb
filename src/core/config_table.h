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
};

#define CONFIG_WORDS_MAX 4
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
    const char *words[CONFIG_WORDS_MAX];
    bool is_reloadable;
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

/* Parses text into config. On -EINVAL the field is unchanged and reason says what is wrong with the
 * value. Pure. */
int config_value_set(struct config *config, const struct config_key *key, const char *text,
                     struct err *reason) MUST_USE;
/* The value in the form that config_value_set reads. Pure. */
void config_value_put(struct buf *out, const struct config *config, const struct config_key *key);
bool config_value_equal(const struct config *a, const struct config *b,
                        const struct config_key *key);
void config_value_copy(struct config *to, const struct config *from, const struct config_key *key);

/* What one load gathers: the values, and for each row where its value came from. */
#define CONFIG_KEYS_MAX     64
#define CONFIG_ORIGIN_BYTES 304

struct config_load {
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

#endif
