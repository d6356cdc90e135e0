"""The encoders of the models that a run compares."""

from dataclasses import dataclass

from crosstok.chats import ExampleEncoder


@dataclass(frozen=True)
class Sides:
    """How the student and its teachers read the same texts and chats.

    Attributes:
        student: encoder of the student.
        teachers: encoders of its teachers, in the order of the recipe; may be empty.
    """

    student: ExampleEncoder
    teachers: tuple[ExampleEncoder, ...] = ()

    @property
    def all(self) -> tuple[ExampleEncoder, ...]:
        """The student's encoder, then those of the teachers."""
        return (self.student, *self.teachers)

    @property
    def first_teacher(self) -> ExampleEncoder:
        """The first teacher's encoder; the student's own where there is no teacher."""
        return self.teachers[0] if self.teachers else self.student
