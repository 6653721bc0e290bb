"""The check-up before anything begins: does everything that the Fleet names let us in, and may we do there what we must?"""
