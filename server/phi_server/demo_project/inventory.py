"""A shop's inventory, kept in memory."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Item:
    name: str
    price: float
    quantity: int = 0

    def total(self) -> float:
        return self.price * self.quantity


class Inventory:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.items: dict[str, Item] = {}

    def add(self, item: Item) -> None:
        if item.name in self.items:
            raise ValueError(f"{item.name} is in the inventory already")
        self.items[item.name] = item

    def load(self) -> None:
        with open(self.path, encoding="utf-8") as file:
            for fields in json.load(file):
                self.add(Item(**fields))

    def total(self) -> float:
        return sum(item.total() for item in self.items.values())
