"""The checks and quizzes of the chapters, one module each: `from resnet_course.exercises import ch03`.

Reading them spoils the exercises. How they are made: `resnet_course/check.py`.
"""
