"""A fleet that is killed, misconfigured and starved on purpose, to see whether it names the cause."""
