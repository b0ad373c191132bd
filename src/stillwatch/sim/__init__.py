"""sim: populations, campaigns, text grammar; imports floor 0 only; never imported by detection"""
