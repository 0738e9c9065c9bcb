"""Research methods: with little evidence beyond their own paper, or supported by PEFT only."""
