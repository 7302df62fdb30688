//! PILLAR. What is on disk: the run directory, its journal and packs, the mailbox, the packed graph.
