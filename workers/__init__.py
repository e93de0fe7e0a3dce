"""The fleet: transport, hub, batcher, engines, settling and housekeeping."""
