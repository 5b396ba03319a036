@echo off
rem Starts Gradle through its wrapper; see README.md for the wrapper's jar, which is not kept here.
setlocal
set FOLDER=%~dp0
set JAR=%FOLDER%gradle\wrapper\gradle-wrapper.jar
if not exist "%JAR%" (
  echo gradle\wrapper\gradle-wrapper.jar is missing: run 'gradle wrapper' once, or open the folder in Android Studio. 1>&2
  exit /b 1
)
if defined JAVA_HOME (set JAVA="%JAVA_HOME%\bin\java") else (set JAVA=java)
cd /d "%FOLDER%"
%JAVA% -Xmx64m -classpath "%JAR%" org.gradle.wrapper.GradleWrapperMain %*
