"""Research methods: those with little evidence beyond their own paper, or that only PEFT reads."""
