/*
 * test_auth: promises of the token file and of its judge. Texts end at a guard page, so that
 * reading a byte too many traps.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/auth.h"

#define GUARDED_BYTES (256u * 1024u)

static uint8_t *guarded; /* GUARDED_BYTES, then a page that nobody may touch */
static struct auth auth;
static struct config_problems problems;
static char path[] = "/tmp/sluice-auth-XXXXXX";

static int group_setup(void **state)
{
    (void)state;
    guarded = mmap(NULL, GUARDED_BYTES + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                   -1, 0);
    int fd = mkstemp(path);
    return guarded == MAP_FAILED || fd < 0 || close(fd) != 0 ||
           mprotect(guarded + GUARDED_BYTES, 4096, PROT_NONE) != 0;
}

static int group_teardown(void **state)
{
    (void)state;
    munmap(guarded, GUARDED_BYTES + 4096);
    return unlink(path);
}

static int setup(void **state)
{
    (void)state;
    auth_init(&auth, AUTH_TOKENS_MAX);
    problems.count = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    auth_close(&auth);
    return 0;
}

/* The same bytes, the last of them just before the guard page. */
static struct slice guard(const void *text, size_t bytes)
{
    assert_true(bytes <= GUARDED_BYTES);
    uint8_t *to = guarded + GUARDED_BYTES - bytes;
    memcpy(to, text, bytes);
    return (struct slice){to, bytes};
}

static struct slice guard_text(const char *text)
{
    return guard(text, strlen(text));
}

static unsigned parse(const char *text)
{
    return auth_parse(&auth, "tokens", guard_text(text), &problems);
}

static enum auth_verdict ask(const char *authorization, enum auth_scope scope)
{
    return auth_check(&auth, guard_text(authorization), scope);
}

static void write_file(const char *text, mode_t mode)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static int load(struct auth *to, const char *environment_token)
{
    static struct config config;
    memset(&config, 0, sizeof config);
    config.auth_enabled = true;
    (void)snprintf(config.auth_tokens, sizeof config.auth_tokens, "%s", path);
    (void)snprintf(config.auth_environment_token, sizeof config.auth_environment_token, "%s",
                   environment_token);
    return auth_load(to, &config, &problems);
}

/* ---- the file ---- */

static void a_line_is_name_token_scopes(void **state)
{
    (void)state;
    assert_int_equal(parse("collector s3cret ingest\n"
                           "\tdash \t r3ad  read  # who looks\r\n"
                           "# root is away\n"
                           "\n"
                           "  #indented\n"
                           "root t0p ingest,read,admin"),
                     0);
    assert_int_equal(auth.count, 3);
    assert_string_equal(auth.tokens[1].name, "dash");
    assert_int_equal(ask("Bearer s3cret", AUTH_INGEST), AUTH_OK);
    assert_int_equal(ask("Bearer r3ad", AUTH_READ), AUTH_OK);
    assert_int_equal(ask("Bearer t0p", AUTH_ADMIN), AUTH_OK);
}

static void every_fault_is_named_with_file_and_line(void **state)
{
    (void)state;
    assert_int_equal(parse("one s3cret ingest\n"
                           "two\n"
                           "two tw0\n"
                           "two tw0 write\n"
                           "two tw0 read,\n"
                           "two tw0 read extra\n"
                           "two t\xc3\xb6 read\n"
                           "two s3cret read\n"
                           "fine f1ne read\n"),
                     7);
    assert_int_equal(auth.count, 2);
    const char *expected[] = {
        "tokens:2: expected NAME TOKEN SCOPE[,SCOPE]",
        "tokens:3: expected NAME TOKEN SCOPE[,SCOPE]",
        "tokens:4: a scope is ingest, read or admin",
        "tokens:5: a scope is ingest, read or admin",
        "tokens:6: expected NAME TOKEN SCOPE[,SCOPE]",
        "tokens:7: a token is 1 to 255 visible ASCII characters",
        "tokens:8: this token is listed already",
    };
    for (size_t i = 0; i < ARRAY_COUNT(expected); i++) {
        assert_memory_equal(problems.text[i], expected[i], strlen(expected[i]));
        assert_null(strstr(problems.text[i], "s3cret"));
        assert_null(strstr(problems.text[i], "tw0"));
    }
}

static void every_truncation_is_judged_without_reading_beyond_it(void **state)
{
    (void)state;
    const char text[] = "# comment\r\nname t0ken ingest,read # more\n\tother 0ther admin";
    for (size_t bytes = 0; bytes < sizeof text; bytes++) {
        auth.count = 0;
        problems.count = 0;
        (void)auth_parse(&auth, "tokens", guard(text, bytes), &problems);
        assert_true(auth.count + problems.count <= 2);
    }
    assert_int_equal(auth.count, 2);
}

static void odd_bytes_are_refused_or_ignored_but_never_a_token(void **state)
{
    (void)state;
    /* Every byte value in the place of one of the token's. */
    for (unsigned c = 0; c < 256; c++) {
        char text[] = "name t_ken ingest";
        text[6] = (char)c;
        auth.count = 0;
        problems.count = 0;
        unsigned faults = auth_parse(&auth, "tokens", guard(text, sizeof text - 1), &problems);
        bool is_legal = c > ' ' && c <= '~';
        assert_int_equal(faults == 0, is_legal);
        assert_int_equal(auth.count, is_legal);
    }
}

static void bounds_of_names_and_tokens_hold(void **state)
{
    (void)state;
    char token[AUTH_TOKEN_BYTES_MAX + 2];
    char line[512];
    memset(token, 't', sizeof token);
    token[AUTH_TOKEN_BYTES_MAX] = 0;
    (void)snprintf(line, sizeof line, "name %s read", token);
    assert_int_equal(parse(line), 0);
    (void)snprintf(line, sizeof line, "Bearer %s", token);
    assert_int_equal(ask(line, AUTH_READ), AUTH_OK);

    token[AUTH_TOKEN_BYTES_MAX] = 't';
    token[AUTH_TOKEN_BYTES_MAX + 1] = 0;
    (void)snprintf(line, sizeof line, "Bearer %s", token);
    assert_int_equal(ask(line, AUTH_READ), AUTH_UNKNOWN);
    (void)snprintf(line, sizeof line, "name %s read", token);
    assert_int_equal(parse(line), 1);
    (void)snprintf(line, sizeof line, "%.64s other read", token);
    assert_int_equal(parse(line), 1);
    (void)snprintf(line, sizeof line, "%.63s other read", token);
    assert_int_equal(parse(line), 0);
}

static void the_1024th_token_fits_and_no_other(void **state)
{
    (void)state;
    char line[64];
    for (unsigned i = 0; i < AUTH_TOKENS_MAX; i++) {
        (void)snprintf(line, sizeof line, "name token-%u ingest", i);
        assert_int_equal(parse(line), 0);
    }
    assert_int_equal(parse("name one-more ingest"), 1);
    assert_int_equal(ask("Bearer token-0", AUTH_INGEST), AUTH_OK);
    assert_int_equal(ask("Bearer token-1023", AUTH_INGEST), AUTH_OK);
    assert_int_equal(ask("Bearer one-more", AUTH_INGEST), AUTH_UNKNOWN);
}

/* ---- loading ---- */

static void a_file_that_others_may_read_is_refused(void **state)
{
    (void)state;
    struct auth loaded;
    const mode_t open_modes[] = {0644, 0640, 0604, 0660, 0700};
    for (size_t i = 0; i < ARRAY_COUNT(open_modes); i++) {
        write_file("name t0ken ingest\n", open_modes[i]);
        problems.count = 0;
        assert_int_equal(load(&loaded, ""), -EINVAL);
        assert_int_equal(problems.count, 1);
        assert_non_null(strstr(problems.text[0], "chmod 0600"));
        assert_null(loaded.tokens);
    }
    write_file("name t0ken ingest\n", 0600);
    assert_int_equal(load(&loaded, ""), 0);
    assert_int_equal(loaded.count, 1);
    assert_int_equal(loaded.capacity, 1);
    auth_close(&loaded);
}

static void a_missing_empty_or_broken_file_leaves_no_set(void **state)
{
    (void)state;
    struct auth loaded;
    write_file("# nobody\n", 0600);
    assert_int_equal(load(&loaded, ""), -EINVAL);
    assert_non_null(strstr(problems.text[0], "nobody could get in"));
    write_file("good t0ken ingest\nbad\n", 0600);
    assert_int_equal(load(&loaded, ""), -EINVAL);
    assert_null(loaded.tokens);
    assert_int_equal(unlink(path), 0);
    problems.count = 0;
    assert_int_equal(load(&loaded, ""), -EINVAL);
    assert_non_null(strstr(problems.text[0], "ENOENT"));
    write_file("", 0600);
}

static void the_token_of_the_environment_has_every_scope(void **state)
{
    (void)state;
    struct auth loaded;
    write_file("# only the environment's\n", 0600);
    assert_int_equal(load(&loaded, "fr0m-env"), 0);
    assert_int_equal(loaded.count, 1);
    struct slice field = SLICE_LITERAL("Bearer fr0m-env");
    assert_int_equal(auth_check(&loaded, field, AUTH_INGEST), AUTH_OK);
    assert_int_equal(auth_check(&loaded, field, AUTH_READ), AUTH_OK);
    assert_int_equal(auth_check(&loaded, field, AUTH_ADMIN), AUTH_OK);
    auth_close(&loaded);
}

/* ---- judging ---- */

static void the_field_is_judged_as_the_three_texts_say(void **state)
{
    (void)state;
    assert_int_equal(parse("one t0ken ingest\n"), 0);
    assert_int_equal(ask("", AUTH_INGEST), AUTH_MISSING);
    const char *bad_forms[] = {"Bearer",      "Bearer ",    "Basic dXNlcjpw",   "t0ken",
                               "Bearert0ken", "Bearer a b", "Bearer t\xc3\xb6", "Bearer t0ken,",
                               "Token t0ken", "B",          "Bearer t0ken x"};
    for (size_t i = 0; i < ARRAY_COUNT(bad_forms); i++) {
        enum auth_verdict verdict = ask(bad_forms[i], AUTH_INGEST);
        bool is_unknown = strcmp(bad_forms[i], "Bearer t0ken,") == 0;
        assert_int_equal(verdict, is_unknown ? AUTH_UNKNOWN : AUTH_FORMAT);
    }
    assert_int_equal(ask("Bearer t0ken", AUTH_INGEST), AUTH_OK);
    assert_int_equal(ask("bearer t0ken", AUTH_INGEST), AUTH_OK);
    assert_int_equal(ask("BEARER \t t0ken", AUTH_INGEST), AUTH_OK);
    assert_int_equal(ask("Bearer T0ken", AUTH_INGEST), AUTH_UNKNOWN);
    assert_string_equal(auth_detail(AUTH_MISSING, AUTH_INGEST),
                        "Authorization header required. Use: Authorization: Bearer <token>");
    assert_string_equal(auth_detail(AUTH_FORMAT, AUTH_INGEST),
                        "Invalid authorization format. Use: Authorization: Bearer <token>");
    assert_string_equal(auth_detail(AUTH_UNKNOWN, AUTH_INGEST), "Invalid authentication token");
}

static void a_prefix_a_suffix_and_any_changed_byte_are_other_tokens(void **state)
{
    (void)state;
    static const char token[] = "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz";
    char field[sizeof token + 16];
    assert_int_equal(auth_add(&auth, SLICE_LITERAL("n"), SLICE_LITERAL(token), AUTH_READ), 0);
    for (size_t bytes = 1; bytes < sizeof token - 1; bytes++) {
        (void)snprintf(field, sizeof field, "Bearer %.*s", (int)bytes, token);
        assert_int_equal(ask(field, AUTH_READ), AUTH_UNKNOWN);
    }
    (void)snprintf(field, sizeof field, "Bearer %s0", token);
    assert_int_equal(ask(field, AUTH_READ), AUTH_UNKNOWN);
    for (size_t i = 0; i < sizeof token - 1; i++) {
        (void)snprintf(field, sizeof field, "Bearer %s", token);
        assert_int_equal(ask(field, AUTH_READ), AUTH_OK);
        field[7 + i] ^= 1;
        assert_int_equal(ask(field, AUTH_READ), AUTH_UNKNOWN);
    }
}

static void no_scope_contains_another(void **state)
{
    (void)state;
    assert_int_equal(parse("a i ingest\nb r read\nc a admin\nd ir ingest,read\n"), 0);
    const struct {
        const char *field;
        unsigned scopes;
    } rows[] = {{"Bearer i", AUTH_INGEST},
                {"Bearer r", AUTH_READ},
                {"Bearer a", AUTH_ADMIN},
                {"Bearer ir", AUTH_INGEST | AUTH_READ}};
    const enum auth_scope scopes[] = {AUTH_INGEST, AUTH_READ, AUTH_ADMIN};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        for (size_t s = 0; s < ARRAY_COUNT(scopes); s++) {
            assert_int_equal(ask(rows[i].field, scopes[s]),
                             (rows[i].scopes & scopes[s]) != 0 ? AUTH_OK : AUTH_FORBIDDEN);
        }
    }
}

static void an_empty_set_lets_nobody_in(void **state)
{
    (void)state;
    assert_int_equal(ask("Bearer ", AUTH_READ), AUTH_FORMAT);
    assert_int_equal(ask("Bearer x", AUTH_READ), AUTH_UNKNOWN);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_line_is_name_token_scopes),
        TEST(every_fault_is_named_with_file_and_line),
        TEST(every_truncation_is_judged_without_reading_beyond_it),
        TEST(odd_bytes_are_refused_or_ignored_but_never_a_token),
        TEST(bounds_of_names_and_tokens_hold),
        TEST(the_1024th_token_fits_and_no_other),
        TEST(a_file_that_others_may_read_is_refused),
        TEST(a_missing_empty_or_broken_file_leaves_no_set),
        TEST(the_token_of_the_environment_has_every_scope),
        TEST(the_field_is_judged_as_the_three_texts_say),
        TEST(a_prefix_a_suffix_and_any_changed_byte_are_other_tokens),
        TEST(no_scope_contains_another),
        TEST(an_empty_set_lets_nobody_in),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
