//! What a device is told: board profiles, units and packaging. Reads strings, opens nothing.
