"""The checks and quizzes of the chapters, one module each.

Reading them spoils the exercises. How they are made: `resnet_course/check.py`.
"""
