"""Export: conversion, checking the file itself, and the folder that a user takes home."""
