"""From a registered version to production: releases, rollouts, quarantine, and the data plane kept as desired."""
