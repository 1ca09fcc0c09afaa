"""What the tests share: one tiny model, one workplace, the scripts in this process or in others, the golden cases."""
