#include "app_witness.h"

#include "core/config.h"
#include "forward/streams.h"
#include "store/catalog.h"
#include "store/runs_verify.h"

int app_witness(void *context, const struct lineage *lineage, struct lineage_witness *witness,
                struct err *err)
{
    const struct config *config = context;
    const struct ulid *node = &lineage->node;
    lineage_witness_note(witness, catalog_seen(config->data_dir, node), CATALOG_FILE);
    lineage_witness_note(witness, runs_seen(config->runs_db, node), "the agent-run database");
    return streams_witness(config->data_dir, lineage, witness, err);
}
