"""Bybit: trades and best quotes of its spot market, whose ids prove nothing."""
