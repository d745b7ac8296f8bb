/*
 * cli_version: `sluice version`. What a bug report needs: the version, the compiler, the kernel it
 * runs on.
 */
#include "cli/cli.h"

#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#if defined(__clang__)
#define VERSION_COMPILER "clang " __clang_version__
#else
#define VERSION_COMPILER "gcc " __VERSION__
#endif

static void version_put_member(struct buf *out, const char *name, const char *value, bool is_last)
{
    buf_printf(out, "\"%s\":", name);
    buf_put_json_string(out, (struct slice){(const uint8_t *)value, strlen(value)});
    buf_put_char(out, is_last ? '}' : ',');
}

int cli_version(int argc, char **argv)
{
    static struct cli_sources cli;
    int exit_code = CLI_DONE;
    if (!cli_sources(&cli, argc, argv, &exit_code) || !cli_no_rest(&cli, argv[0], &exit_code)) {
        return exit_code;
    }
    char memory[1024];
    struct buf out;
    struct utsname host;
    buf_init(&out, memory, sizeof memory);
    if (uname(&host) < 0) {
        memset(&host, 0, sizeof host); /* UNTESTED: uname fails for a bad pointer only */
    }
    if (cli.is_json) {
        buf_put_char(&out, '{');
        version_put_member(&out, "version", SLUICE_VERSION, false);
        version_put_member(&out, "compiler", VERSION_COMPILER, false);
        version_put_member(&out, "kernel", host.release, false);
        version_put_member(&out, "machine", host.machine, true);
        buf_put_char(&out, '\n');
    } else {
        buf_printf(&out, "sluice %s (%s; Linux %s %s)\n", SLUICE_VERSION, VERSION_COMPILER,
                   host.release, host.machine);
    }
    return cli_put(STDOUT_FILENO, &out) ? CLI_DONE : CLI_FAILED;
}
