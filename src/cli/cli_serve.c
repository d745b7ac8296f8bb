/*
 * sluice serve: loads the configuration, sets up the log lines and hands over to app_serve.
 */
#include "cli/cli.h"

#include "app.h"
#include "core/logline.h"
#include "core/mem.h"

#include <unistd.h>

static bool serve_logs_json(const struct config *config)
{
    if (config->log_format == CONFIG_LOG_AUTO) {
        return isatty(STDERR_FILENO) == 0;
    }
    return config->log_format == CONFIG_LOG_JSON;
}

int cli_serve(int argc, char **argv)
{
    static struct cli_sources cli; /* large, and reload reads it again while the server runs */
    int exit_code = CLI_DONE;
    if (!cli_sources(&cli, argc, argv, &exit_code) || !cli_no_rest(&cli, argv[0], &exit_code)) {
        return exit_code;
    }
    struct config *config = mem_alloc(sizeof *config);
    exit_code = CLI_FAILED;
    if (cli_load(&cli, config)) {
        logline_configure((enum logline_level)config->log_level, serve_logs_json(config));
        exit_code = app_serve(config, &cli.sources);
    }
    mem_free(config);
    return exit_code;
}
