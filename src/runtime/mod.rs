//! BEAM. Machines and pillars together: a running cluster.
