"""Training by progressive shrinking: recipes, the step, the loop, the ledger."""
