"""Microcontrollers: the plan of their memory, their interpreter, the boards, and what an export holds for them."""
