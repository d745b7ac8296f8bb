/*
 * cli_config: `sluice config`, the effective configuration and where each value came from. The
 * listing is itself a valid sluice.conf. Exit 1 with every problem when the configuration would not
 * be accepted.
 */
#include "cli/cli.h"

#include "core/mem.h"

#include <unistd.h>

/* 50 keys with help, and 24 sinks and pollers of up to 60 KiB each: 37 keys with origins of 300 bytes, 6 KiB of
 * values, threefold in JSON where every byte is none of UTF-8. */
#define CONFIG_LISTING_BYTES MIB(2)

int cli_config(int argc, char **argv)
{
    static struct cli_sources cli; /* large, and a command runs once */
    int exit_code = CLI_DONE;
    if (!cli_sources(&cli, argc, argv, &exit_code) || !cli_no_rest(&cli, argv[0], &exit_code)) {
        return exit_code;
    }
    struct config *config = mem_alloc(sizeof *config);
    uint8_t *memory = mem_alloc(CONFIG_LISTING_BYTES);
    exit_code = CLI_FAILED;
    if (cli_load(&cli, config)) {
        struct buf listing;
        buf_init(&listing, memory, CONFIG_LISTING_BYTES);
        config_print(&listing, config, &cli.sources, cli.is_json);
        ASSERT(!listing.is_truncated);
        exit_code = cli_put(STDOUT_FILENO, &listing) ? CLI_DONE : CLI_FAILED;
    }
    mem_free(memory);
    mem_free(config);
    return exit_code;
}
