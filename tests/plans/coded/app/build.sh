#!/bin/sh
echo "setting up in $PWD"
sleep 0.2
echo "what setup made" >made
