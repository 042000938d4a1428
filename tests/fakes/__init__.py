"""Servers for tests, imitating services that can't be started here."""
