//! PILLAR. Readers of events: what a run is doing, and what it did. Nothing here asks the scheduler.
