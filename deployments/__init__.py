"""What a Prefect server holds: deployments, work pools, queues, limits, variables, automations."""
