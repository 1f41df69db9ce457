"""Kills processes of the service at random under mixed load and checks afterwards that its data is consistent."""
