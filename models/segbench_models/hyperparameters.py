"""Refuses impossible hyper-parameters with a sentence, before torch fails with a traceback."""


def check_sizes(*, in_channels: int, num_classes: int, spatial_dims: int) -> None:
    """Raise ValueError unless a network can be built for this data."""
    check_at_least(1, in_channels=in_channels, num_classes=num_classes)
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims is {spatial_dims}, expected 2 (images) or 3 (volumes)")


def check_at_least(smallest: int, **values: int) -> None:
    """Raise ValueError naming the first value below the smallest one allowed."""
    for name, value in values.items():
        if value < smallest:
            raise ValueError(f"{name} is {value}, expected {smallest} or more")


def check_multiple(divisor: int, **values: int) -> None:
    """Raise ValueError naming the first value that the divisor does not divide."""
    for name, value in values.items():
        if value % divisor:
            raise ValueError(f"{name} is {value}, expected a multiple of {divisor}")
